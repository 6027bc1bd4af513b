//! The map of `src/lib.rs` is true: pure rooms import nothing that touches the outside, and dependencies point downwards.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms without clock, file, socket, device or chance.
const PURE: [&str; 11] = [
    "access_point",
    "delivery_point",
    "directory",
    "identity",
    "incoming_point",
    "legal_log",
    "message",
    "model",
    "smime",
    "transaction",
    "virus",
];

const OUTSIDE: [&str; 15] = [
    "cryptoki",
    "metrics",
    "tokio",
    "indymilter",
    "rusqlite",
    "nix",
    "tracing",
    "sd_notify",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "SystemTime",
    "Instant::now",
];

/// For each room, what it may use of the others.
const ALLOWED: [(&str, &[&str]); 11] = [
    ("model", &[]),
    ("legal_log", &["message", "model"]),
    ("identity", &["model"]),
    ("virus", &["model"]),
    ("smime", &["model"]),
    ("directory", &["model", "smime"]),
    ("message", &["model"]),
    ("transaction", &["legal_log", "message", "model"]),
    ("access_point", &["message", "model"]),
    ("delivery_point", &["message", "model"]),
    ("incoming_point", &["directory", "message", "model", "smime"]),
];

/// Source files of a room without their tests, with what they say.
fn sources(room: &str) -> Vec<(PathBuf, String)> {
    fn collect(path: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room), &mut found);
    let is_test = |path: &PathBuf| path.ends_with("tests.rs") || path.ends_with("testing.rs");
    assert!(!found.is_empty(), "{room} has no sources");
    found
        .into_iter()
        .filter(|path| !is_test(path))
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
            (path, code)
        })
        .collect()
}

fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn pure_rooms_touch_nothing_outside() {
    let mut offences = Vec::new();
    for room in PURE {
        for (path, text) in sources(room) {
            for (number, line) in code_lines(&text) {
                for word in OUTSIDE.iter().filter(|word| names(line, word)) {
                    offences.push(format!("{}:{number}: {word}", path.display()));
                }
            }
        }
    }
    assert!(offences.is_empty(), "forbidden in a pure room:\n{}", offences.join("\n"));
}

#[test]
fn dependencies_point_downwards() {
    let mut offences = Vec::new();
    for (room, allowed) in ALLOWED {
        for (path, text) in sources(room) {
            for (number, line) in code_lines(&text) {
                for (other, _) in
                    line.match_indices("crate::").map(|(at, _)| line[at + 7..].split_at(room_length(&line[at + 7..])))
                {
                    if other != room && !allowed.contains(&other) {
                        offences.push(format!("{}:{number}: crate::{other}", path.display()));
                    }
                }
            }
        }
    }
    assert!(offences.is_empty(), "a room looks upwards:\n{}", offences.join("\n"));
}

fn room_length(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())
}

/// Whether a line names a path or type, and not a longer word that contains it.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let is_inside = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let before = line[..at].chars().next_back().is_some_and(is_inside);
        let after = line[at + word.len()..].chars().next().is_some_and(is_inside);
        !before && !after
    })
}
