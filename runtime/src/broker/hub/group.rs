//! Groups of shared subscriptions.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Delivery, Stop};

/// A `$share` group: each message goes to one member, in turn.
#[derive(Debug)]
pub(super) struct Group {
    /// The whole `$share/name/filter`.
    pub path: String,
    /// Where the inner filter starts in `path`.
    pub filter_at: usize,
    pub members: Vec<Member>,
    pub next: usize,
}

#[derive(Debug)]
pub(super) struct Member {
    pub number: u64,
    pub at_least_once: bool,
    pub queue: mpsc::Sender<Delivery>,
    pub stop: Arc<Stop>,
}

/// All groups of a broker; an empty group is no group.
#[derive(Debug, Default)]
pub(super) struct Groups(pub Vec<Group>);

impl Groups {
    pub(super) fn join(&mut self, path: &str, filter_at: usize, member: Member) {
        let group = match self.0.iter_mut().position(|g| g.path == path) {
            Some(index) => &mut self.0[index],
            None => {
                let (path, members) = (path.to_owned(), Vec::new());
                self.0.push_mut(Group {
                    path,
                    filter_at,
                    members,
                    next: 0,
                })
            }
        };
        group.members.retain(|m| m.number != member.number);
        group.members.push(member);
    }

    /// Leaves the group of that path, or all groups.
    pub(super) fn leave(&mut self, number: u64, path: Option<&str>) {
        for group in &mut self.0 {
            if path.is_none_or(|path| path == group.path) {
                group.members.retain(|m| m.number != number);
            }
        }
        self.0.retain(|group| !group.members.is_empty());
    }
}
