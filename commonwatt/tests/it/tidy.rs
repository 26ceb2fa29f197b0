//! What the source promises, checked: module docs, forbidden edges, lengths, no unwrap outside tests.
//!
//! Lengths are printed as advice; a function over 70 lines fails the build.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::spanned::Spanned;
use syn::visit::Visit;

const FUNCTION_MAX_LINES: usize = 70;
const FUNCTION_ADVICE_LINES: usize = 50;
const FILE_ADVICE_LINES: usize = 450;
/// Unwraps and expects per thousand lines outside tests that are still fine.
const UNWRAPS_PER_KLOC_MAX: usize = 2;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn rooms() -> Vec<PathBuf> {
    let names = [
        "domain",
        "runtime",
        "meter-gateway",
        "market-engine",
        "settlement",
        "simulator",
        "commonwatt",
    ];
    names.iter().map(|name| root().join(name)).collect()
}

fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// Every Rust file below `src` of every room, with its text.
fn sources() -> BTreeMap<PathBuf, String> {
    let mut files = Vec::new();
    for room in rooms() {
        rust_files(&room.join("src"), &mut files);
    }
    assert!(
        files.len() > 50,
        "the source was not found: {} files",
        files.len()
    );
    files
        .into_iter()
        .map(|f| (f.clone(), std::fs::read_to_string(f).unwrap()))
        .collect()
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}

#[test]
fn every_module_says_what_it_is_for() {
    let silent: Vec<_> = sources()
        .iter()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(f, _)| shown(f))
        .collect();
    assert!(
        silent.is_empty(),
        "these files do not open with `//!`: {silent:#?}"
    );
}

/// The rooms a room's own code may depend on.
const MAY_KNOW: [(&str, &[&str]); 7] = [
    ("domain", &[]),
    ("runtime", &["domain"]),
    ("meter-gateway", &["domain", "runtime"]),
    ("market-engine", &["domain", "runtime"]),
    ("settlement", &["domain", "runtime"]),
    (
        "simulator",
        &[
            "domain",
            "runtime",
            "meter-gateway",
            "market-engine",
            "settlement",
        ],
    ),
    (
        "commonwatt",
        &[
            "domain",
            "runtime",
            "meter-gateway",
            "market-engine",
            "settlement",
            "simulator",
        ],
    ),
];

#[test]
fn no_room_knows_a_room_it_may_not() {
    for (room, allowed) in MAY_KNOW {
        let manifest = std::fs::read_to_string(root().join(room).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let dependencies = manifest["dependencies"].as_table().unwrap();
        for (other, _) in MAY_KNOW {
            let forbidden = dependencies.contains_key(other) && !allowed.contains(&other);
            assert!(!forbidden, "{room} must not depend on {other}");
        }
        if room == "domain" {
            for outside in ["tokio", "sqlx", "axum", "rumqttc"] {
                assert!(
                    !dependencies.contains_key(outside),
                    "domain must not depend on {outside}"
                );
            }
        }
        let polars = dependencies.contains_key("polars");
        assert!(
            !polars || room == "simulator",
            "polars belongs in simulator only, not in {room}"
        );
    }
}

/// Files of the market and the settlement that may know the plumbing.
fn may_know_runtime(path: &Path) -> bool {
    let in_service_folder = path
        .components()
        .any(|c| c.as_os_str() == "service" || c.as_os_str() == "store");
    let stem = path.file_stem().unwrap().to_str().unwrap();
    in_service_folder || ["service", "store"].contains(&stem)
}

#[test]
fn rules_of_market_and_money_know_no_plumbing() {
    for (path, text) in sources() {
        let room = shown(&path);
        let is_rule = (room.starts_with("market-engine") || room.starts_with("settlement"))
            && !may_know_runtime(&path);
        let mentions = text
            .lines()
            .any(|l| !l.trim_start().starts_with("//") && l.contains("runtime::"));
        assert!(
            !(is_rule && mentions),
            "{room} is a rule and must not use runtime"
        );
    }
}

#[derive(Default)]
struct Functions {
    /// Name, first line, length.
    found: Vec<(String, usize, usize)>,
    unwraps: usize,
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|a| {
        let list = a
            .meta
            .require_list()
            .map(|l| l.tokens.to_string())
            .unwrap_or_default();
        a.path().is_ident("test") || (a.path().is_ident("cfg") && list.contains("test"))
    })
}

impl Functions {
    fn take(&mut self, name: &syn::Ident, whole: proc_macro2::Span) {
        let (from, to) = (whole.start().line, whole.end().line);
        self.found.push((name.to_string(), from, to + 1 - from));
    }
}

impl<'a> Visit<'a> for Functions {
    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        }
    }
    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        self.take(&item.sig.ident, item.block.span());
        syn::visit::visit_item_fn(self, item);
    }
    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        self.take(&item.sig.ident, item.block.span());
        syn::visit::visit_impl_item_fn(self, item);
    }
    fn visit_expr_method_call(&mut self, call: &'a syn::ExprMethodCall) {
        if call.method == "unwrap" || call.method == "expect" {
            self.unwraps += 1;
        }
        syn::visit::visit_expr_method_call(self, call);
    }
}

/// The files that their parents declare as `#[cfg(test)] mod name;`: tests, wherever they lie.
fn test_files(sources: &BTreeMap<PathBuf, String>) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for (path, text) in sources {
        let stem = path.file_stem().unwrap();
        let is_root = ["lib", "main", "mod"].iter().any(|name| stem == *name);
        let folder = if is_root {
            path.parent().unwrap().to_owned()
        } else {
            path.with_extension("")
        };
        for item in syn::parse_file(text).unwrap().items {
            if let syn::Item::Mod(module) = item
                && module.content.is_none()
                && is_test(&module.attrs)
            {
                found.insert(folder.join(format!("{}.rs", module.ident)));
            }
        }
    }
    found
}

#[test]
fn functions_fit_a_screen_and_do_not_unwrap() {
    let (mut too_long, mut unwraps, mut lines) = (Vec::new(), 0, 0);
    let sources = sources();
    let tests = test_files(&sources);
    assert!(
        tests.len() > 5,
        "the files of tests were not found: {tests:?}"
    );
    for (path, text) in sources {
        let mut functions = Functions::default();
        functions.visit_file(
            &syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", shown(&path))),
        );
        let length = text.lines().count();
        if !tests.contains(&path) {
            lines += length;
            unwraps += functions.unwraps;
        }
        if length > FILE_ADVICE_LINES {
            println!(
                "advice: {} has {length} lines: is it one thing?",
                shown(&path)
            );
        }
        for (name, line, length) in functions.found {
            let place = format!("{}:{line} {name} has {length} lines", shown(&path));
            if length > FUNCTION_MAX_LINES {
                too_long.push(place);
            } else if length > FUNCTION_ADVICE_LINES {
                println!("advice: {place}");
            }
        }
    }
    assert!(
        too_long.is_empty(),
        "over {FUNCTION_MAX_LINES} lines: {too_long:#?}"
    );
    assert!(
        unwraps * 1000 <= lines * UNWRAPS_PER_KLOC_MAX,
        "{unwraps} unwraps and expects outside tests in {lines} lines"
    );
}

#[test]
fn no_path_of_a_machine_and_no_unfinished_mark_is_left() {
    // Split, so that this file does not find itself.
    let marks = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("FIX", "ME"),
        concat!("#[ig", "nore"),
    ];
    for (path, text) in sources() {
        for mark in marks {
            assert!(!text.contains(mark), "{} contains {mark}", shown(&path));
        }
        // A household's pages lie below /home.
        let is_page = path
            .components()
            .any(|part| part.as_os_str() == "web" || part.as_os_str() == "web.rs");
        let folders = ["root", "work", "tmp", "home"];
        for folder in &folders[..if is_page { 3 } else { 4 }] {
            let needle = format!("\"/{folder}/");
            assert!(
                !text.contains(&needle),
                "{} names a path of a machine",
                shown(&path)
            );
        }
    }
}
