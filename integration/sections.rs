//! Code and RFC 6109 point at each other truly: every bare § exists, and every fulfilled section is cited.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

#[derive(PartialEq)]
enum Status {
    Done,
    Partial,
    NotOurs,
}

fn sections() -> BTreeMap<String, Status> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/rfc6109/sections.txt");
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (number, rest) = line.split_once(char::is_whitespace).unwrap();
            let status = match rest.trim() {
                rest if rest.starts_with("done") => Status::Done,
                rest if rest.starts_with("partial") => Status::Partial,
                rest if rest.starts_with("not ours") => Status::NotOurs,
                other => panic!("{number}: unknown status {other}"),
            };
            (number.to_owned(), status)
        })
        .collect()
}

/// Every § of the sources that no other standard's name stands before, with its place.
fn citations() -> Vec<(String, String)> {
    fn collect(folder: &Path, found: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            for (index, line) in text.lines().enumerate() {
                for (at, sign) in line.match_indices('§') {
                    let number: String =
                        line[at + sign.len()..].chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
                    let before = line[..at].trim_end_matches([' ', ',']);
                    let is_foreign =
                        before.rsplit(' ').next().is_some_and(|word| word.ends_with(|c: char| c.is_ascii_digit()));
                    let follows_foreign = line[..at].contains("RFC ") && !line[..at].contains("RFC 6109");
                    if !is_foreign && !follows_foreign && !number.is_empty() {
                        let place = format!("{}:{}", path.display(), index + 1);
                        found.push((number.trim_end_matches('.').to_owned(), place));
                    }
                }
            }
        }
    }
    let mut found = Vec::new();
    for folder in ["src", "postfix-conf", "dovecot-conf"] {
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
    }
    found
}

#[test]
fn every_section_that_is_cited_exists() {
    let known = sections();
    let unknown: Vec<String> = citations()
        .into_iter()
        .filter(|(number, _)| !known.contains_key(number))
        .map(|(number, place)| format!("{place}: §{number}"))
        .collect();
    assert!(unknown.is_empty(), "not in testdata/rfc6109/sections.txt:\n{}", unknown.join("\n"));
}

#[test]
fn every_section_that_is_done_is_cited() {
    let cited: BTreeSet<String> = citations().into_iter().map(|(number, _)| number).collect();
    let uncited: Vec<String> = sections()
        .into_iter()
        .filter(|(number, status)| *status == Status::Done && !cited.contains(number))
        .map(|(number, _)| number)
        .collect();
    assert!(uncited.is_empty(), "done but cited nowhere: {}", uncited.join(", "));
}
