//! A reverse or forward path as the LMTP and SMTP dialogues write it: `<...>`.
//!
//! Decided here: where a path ends, and that nothing inside it can be taken for another command or parameter. What
//! stands inside is passed on as text: ordinary mail may have odd addresses, and certified mail is judged by
//! `model::Address`. A path that breaks these rules is `None` or `false`, never cut or repaired.

/// RFC 5321 §4.5.3.1.3 asks for 256 octets; Postfix takes odd longer addresses, which are no reason to lose mail.
const LONGEST_PATH: usize = 1024;

/// Takes `<path>` off the front of a text: the path without brackets, and what follows after a blank.
pub(super) fn split(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix('<')?;
    let (path, rest) = inside.split_at_checked(end(inside)?)?;
    let rest = rest.strip_prefix('>')?;
    let separated = rest.is_empty() || rest.starts_with(' ');
    let harmless = path.len() <= LONGEST_PATH && !path.chars().any(char::is_control);
    (separated && harmless).then_some((path, rest))
}

/// Whether a path can stand between angle brackets and be read back whole.
pub(super) fn is_harmless(path: &str) -> bool {
    split(&format!("<{path}>")).is_some_and(|(read, rest)| read == path && rest.is_empty())
}

/// Where the closing bracket stands: the first one outside a quoted string (RFC 5321 §4.1.2). A blank outside quotes
/// means that the bracket was forgotten.
fn end(inside: &str) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, octet) in inside.bytes().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(at),
            b' ' | b'<' if !quoted => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_ends_at_the_bracket_outside_quotes() {
        assert_eq!(split("<>"), Some(("", "")));
        assert_eq!(split("<anna@alfa.example> SIZE=1"), Some(("anna@alfa.example", " SIZE=1")));
        assert_eq!(split(r#"<"a> \" b"@x> BODY=7BIT"#), Some((r#""a> \" b"@x"#, " BODY=7BIT")));
        assert_eq!(split("<@relay.example:anna@x>"), Some(("@relay.example:anna@x", "")));
    }

    #[test]
    fn what_is_not_one_path_is_refused() {
        for text in [
            "",
            "anna@x",
            "<anna@x",
            "<anna @x>",
            "<anna@x>x",
            "<<anna@x>",
            r#"<"anna@x>"#,
            "<a\u{7}@x>",
            "<a\r\nRSET@x>",
        ] {
            assert_eq!(split(text), None, "{text:?}");
        }
        assert_eq!(split(&format!("<{}>", "a".repeat(LONGEST_PATH + 1))), None);
    }

    #[test]
    fn a_path_that_would_smuggle_a_parameter_is_not_harmless() {
        assert!(is_harmless("anna@alfa.example"));
        assert!(is_harmless(""));
        assert!(!is_harmless("anna@alfa.example> ORCPT=rfc822;x@y"));
        assert!(!is_harmless("anna@alfa.example>\r\nDATA"));
    }
}
