//! The encodings of what we write: always 7-bit, lines of at most 76 octets, CRLF (§4.3).

use base64::{Engine, engine::general_purpose::STANDARD};

/// RFC 2045 §6.8: at most 76 characters a line, which 57 octets fill.
const OCTETS_PER_BASE64_LINE: usize = 57;
/// RFC 2047 §2: an encoded word has at most 75 characters.
const LONGEST_ENCODED_WORD: usize = 75;
/// RFC 5322 §2.1.1 recommends 78; folding happens before that.
const LONGEST_HEADER_LINE: usize = 76;
/// What of a parameter's value fits such a line beside its name and its number.
const LONGEST_PARAMETER_LINE: usize = 58;

/// Postfix cuts a field of more than 60 000 octets. Encoded words take up to 53 000 for this many, and the prefix comes before.
const LONGEST_SUBJECT: usize = 30_000;

/// What of a subject a field of ours can carry, in octets of whole characters; no blank at the end, which a reader of the
/// field would not get.
pub fn carried_subject(text: &str) -> &str {
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    let end = ends.take_while(|end| *end <= LONGEST_SUBJECT).last().unwrap_or(0);
    text.get(..end).unwrap_or_default().trim_end()
}

/// Base64 in lines, each with its CRLF.
pub fn base64_lines(content: &[u8]) -> String {
    let mut lines = String::with_capacity(content.len() / 3 * 4 + content.len() / 28 + 8);
    for chunk in content.chunks(OCTETS_PER_BASE64_LINE) {
        STANDARD.encode_string(chunk, &mut lines);
        lines.push_str("\r\n");
    }
    lines
}

/// Text with CRLF line ends, in ISO-8859-1 (what it lacks becomes `?`), quoted-printable.
pub fn quoted_printable_latin1(text: &str) -> String {
    let latin1: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect();
    let encoded = quoted_printable::encode(latin1);
    String::from_utf8(encoded).unwrap_or_default()
}

/// The value of an unstructured field: as it is when it is short printable ASCII, encoded words otherwise (RFC 2047).
///
/// `name` is the field's, whose length counts on the first line. Of a text that no field can carry whole, the beginning.
pub fn unstructured(name: &str, prefix: &str, text: &str) -> String {
    let text = carried_subject(text);
    let plain = format!("{prefix} {text}").trim_end().to_owned();
    let looks_encoded = text.contains("=?");
    if !looks_encoded && is_plain(&plain) && name.len() + 2 + plain.len() <= LONGEST_HEADER_LINE {
        return plain;
    }
    if text.is_empty() {
        return prefix.to_owned();
    }
    let first_line_used = name.len() + 2 + prefix.len() + 1;
    format!("{prefix} {}", encoded_words(text, first_line_used))
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && !text.contains("  ")
}

/// `=?UTF-8?B?…?=` words separated by folds, none of them splitting a character.
fn encoded_words(text: &str, first_line_used: usize) -> String {
    const FRAME: usize = "=?UTF-8?B??=".len();
    let octets_fitting = |columns: usize| columns.saturating_sub(FRAME).min(LONGEST_ENCODED_WORD - FRAME) / 4 * 3;
    let mut room = octets_fitting(LONGEST_HEADER_LINE.saturating_sub(first_line_used)).max(12);
    let (mut words, mut word) = (Vec::new(), String::new());
    for c in text.chars() {
        if word.len() + c.len_utf8() > room {
            words.push(std::mem::take(&mut word));
            room = octets_fitting(LONGEST_HEADER_LINE - 1);
        }
        word.push(c);
    }
    words.push(word);
    let words: Vec<String> = words.iter().map(|word| format!("=?UTF-8?B?{}?=", STANDARD.encode(word))).collect();
    words.join("\r\n ")
}

/// A display name as a quoted string (RFC 5322 §3.2.4); what no header can hold becomes `?`.
pub fn quoted_string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            _ => quoted.push('?'),
        }
    }
    quoted.push('"');
    quoted
}

/// A parameter of a `Content-Type` or `Content-Disposition` field, with the semicolon and fold before it: a quoted string
/// where that is enough, the form of RFC 2231 otherwise.
pub fn parameter(name: &str, value: &str) -> String {
    let needs_no_code = |byte: u8| (b' '..=b'~').contains(&byte) && !matches!(byte, b'"' | b'\\');
    let is_plain = value.len() <= LONGEST_PARAMETER_LINE && value.bytes().all(needs_no_code) && !value.contains("=?");
    if is_plain {
        return format!(";\r\n {name}=\"{value}\"");
    }
    let mut lines = vec![String::from("UTF-8''")];
    for byte in value.bytes() {
        let coded = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        };
        match lines.last_mut() {
            Some(line) if line.len() + coded.len() <= LONGEST_PARAMETER_LINE => line.push_str(&coded),
            _ => lines.push(coded),
        }
    }
    match lines.as_slice() {
        [line] => format!(";\r\n {name}*={line}"),
        lines => lines.iter().enumerate().map(|(number, line)| format!(";\r\n {name}*{number}*={line}")).collect(),
    }
}

/// Text for XML and HTML, between tags and in attributes.
pub fn escape_markup(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::header::Header;

    fn subject(text: &str) -> String {
        unstructured("Subject", "POSTA CERTIFICATA:", text)
    }

    #[test]
    fn a_short_ascii_subject_travels_as_it_is() {
        assert_eq!(subject("Contratto"), "POSTA CERTIFICATA: Contratto");
        assert_eq!(subject(""), "POSTA CERTIFICATA:");
    }

    #[test]
    fn every_other_subject_is_encoded_and_reads_back() {
        for text in ["Perché", "=?x?q?y?=", "due  spazi", &"a".repeat(500), &"è🎻".repeat(90), "a", "ü"] {
            let value = subject(text);
            let line = format!("Subject: {value}\r\n\r\n");
            assert!(line.lines().all(|line| line.len() <= 78), "{line}");
            assert!(line.is_ascii());
            let read = Header::read(line.as_bytes()).first("Subject").unwrap().decoded();
            assert_eq!(read, format!("POSTA CERTIFICATA: {text}"), "{value}");
        }
    }

    #[test]
    fn a_subject_that_no_field_can_carry_ends_after_a_whole_character() {
        for text in ["a", "è", "€", "🎻"] {
            let long = text.repeat(60_000);
            assert!(carried_subject(&long).len() + 4 > LONGEST_SUBJECT && long.starts_with(carried_subject(&long)));
            let line = format!("Subject: {}\r\n\r\n", subject(&long));
            assert!(line.len() < 60_000, "{text}: {}", line.len());
            let read = Header::read(line.as_bytes()).first("Subject").unwrap().decoded();
            assert_eq!(read, format!("POSTA CERTIFICATA: {}", carried_subject(&long)));
        }
    }

    #[test]
    fn a_subject_that_is_cut_at_a_blank_reads_back_without_it() {
        for blank in [" ", "  ", "\u{2003}"] {
            let head = "a".repeat(LONGEST_SUBJECT - blank.len());
            let long = format!("{head}{blank}coda");
            assert!(carried_subject(&long) == head, "{blank:?}");
            let line = format!("Subject: {}\r\n\r\n", subject(&long));
            let read = Header::read(line.as_bytes()).first("Subject").unwrap().decoded();
            assert!(read == format!("POSTA CERTIFICATA: {head}"), "{blank:?}");
        }
    }

    #[test]
    fn quoted_printable_is_latin1_with_short_lines() {
        let text = format!("è stato {}\r\n€ \r\n", "x".repeat(200));
        let encoded = quoted_printable_latin1(&text);
        assert!(encoded.starts_with("=E8 stato"));
        assert!(encoded.lines().all(|line| line.len() <= 76));
        assert!(encoded.contains("\r\n?=20\r\n"), "{encoded}");
    }

    #[test]
    fn base64_lines_have_76_characters() {
        assert_eq!(base64_lines(&[0; 58]), format!("{}\r\nAA==\r\n", "A".repeat(76)));
        assert_eq!(base64_lines(b""), "");
    }

    #[test]
    fn parameters_read_back_with_short_lines() {
        for value in
            ["a.pdf", "due parole.pdf", "a\"b\\c", "perché.pdf", "=?x?q?y?=", &"è".repeat(120), &"a".repeat(300)]
        {
            let field = format!("Content-Disposition: attachment{}\r\n\r\n", parameter("filename", value));
            assert!(field.is_ascii() && field.lines().all(|line| line.len() <= 78), "{field}");
            let read = Header::read(field.as_bytes()).content_disposition();
            assert_eq!(read.parameter("filename"), Some(value), "{field}");
        }
        assert_eq!(parameter("name", "a.pdf"), ";\r\n name=\"a.pdf\"");
    }

    #[test]
    fn quoted_strings_and_markup_are_escaped() {
        assert_eq!(quoted_string("a \"b\" \\ è"), "\"a \\\"b\\\" \\\\ ?\"");
        assert_eq!(escape_markup("<a & \"b\">"), "&lt;a &amp; &quot;b&quot;&gt;");
    }
}
