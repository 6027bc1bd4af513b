//! Files that are no configuration.

use super::*;

#[test]
fn a_file_that_is_not_toml_is_refused_with_its_lines() {
    let told = errors("[provider\nname = \"x\"\n\nname = = 3\n");
    assert!(told.len() >= 2, "{told:?}");
    assert!(told[0].starts_with(":1: not TOML: "), "{told:?}");
    assert!(told.iter().any(|line| line.starts_with(":4: not TOML: ")), "{told:?}");
    assert!(errors(&LEAST.replace("[key]", "[provider]")).iter().any(|line| line.contains("not TOML")));
    assert_eq!(
        errors(&format!("log = 3\n{LEAST}")),
        [":1: log: not a section; write [log] on a line of its own and its keys below"]
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Config::read(Path::new("/nonexistent/pec-milter.toml")).unwrap_err();
    assert_eq!(error.to_string(), "/nonexistent/pec-milter.toml: the configuration cannot be read");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn odd_files_never_panic() {
    for text in
        ["", "\0", "\u{feff}", "[a.b.c]", "provider = []", "[[provider]]", "provider.name.x = 1", "\"\" = 1", "[\"\"]"]
    {
        assert!(parse(text).is_err(), "{text:?}");
    }
    for end in 0..LEAST.len() {
        let _ = parse(&LEAST[..end]);
        let _ = parse(&format!("{}\u{1}é{}", &LEAST[..end], &LEAST[end..]));
    }
}
