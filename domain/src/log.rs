//! What anybody needs to check a log that nobody can change unseen: its tree and its signed roots.
//!
//! It is here and not with settlement because a gateway checks its operator's log as well.

pub mod checkpoint;
pub mod cosignature;
pub mod note;
pub mod tree;
