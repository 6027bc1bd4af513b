//! LDIF content records (RFC 2849): bytes in, records out, nothing known of their meaning.
//!
//! The national file is read as it comes. Where the meaning stays single, more is taken than RFC 2849 writes: LF or CRLF,
//! a byte order mark, any number of blank lines, UTF-8 in plain values, blanks in base64, and a `dn:` line that starts
//! a record without a blank line before it, as §4.5.10 prints them. What would need a guess refuses the whole file, with
//! the number of the line: change records, values kept elsewhere (`:<`), attributes outside a record.
//!
//! One pass, each octet copied at most twice, so that the time grows with the file and not with its square.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Some ten times the national file, and well within the memory of a mail server.
const LARGEST_FILE: usize = 256 << 20;
/// A certificate is a few thousand octets; a line of a million is a file that is not LDIF.
const LONGEST_LINE: usize = 1 << 20;
/// How much of an odd line its error shows.
const EXCERPT: usize = 60;

/// One directory entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LdifRecord {
    /// The line of its `dn`.
    pub line: usize,
    pub dn: String,
    attributes: Vec<Attribute>,
}

/// One value of one attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    pub line: usize,
    /// In lower case, with its options, but without `;binary`, which tells how it travelled (RFC 4522 §3).
    name: String,
    pub value: Vec<u8>,
}

/// Why a file is not a list of LDIF content records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LdifError {
    #[error("the file holds {0} bytes, more than the {LARGEST_FILE} that a providers directory may have")]
    FileTooLarge(usize),
    #[error("line {0}: longer than {LONGEST_LINE} bytes with its continuation lines; this is not an LDIF file")]
    LineTooLong(usize),
    #[error("line {0}: begins with a space but continues nothing; remove the space or the blank line before it")]
    ContinuesNothing(usize),
    #[error("line {line}: {text:?} has no colon after an attribute name; expected `name: value`")]
    NoAttribute { line: usize, text: String },
    #[error("line {line}: {text:?} stands outside a record; a record begins with a `dn:` line")]
    OutsideRecord { line: usize, text: String },
    #[error("line {line}: LDIF version {found:?} is not known; expected `version: 1`")]
    Version { line: usize, found: String },
    #[error("line {0}: a change record; export the directory as content, without `changetype` and `control`")]
    Change(usize),
    #[error("line {0}: the value is a URL (`:<`), which is not followed; write the value itself, in base64 after `::`")]
    Url(usize),
    #[error("line {line}: the value after `::` is not base64")]
    Base64 {
        line: usize,
        #[source]
        source: base64::DecodeError,
    },
    #[error("line {0}: the distinguished name is empty or not UTF-8")]
    Dn(usize),
}

impl LdifRecord {
    /// The values of one attribute, in the order of the file.
    pub fn values<'r>(&'r self, name: &'r str) -> impl Iterator<Item = &'r Attribute> {
        self.attributes.iter().filter(move |attribute| attribute.name.eq_ignore_ascii_case(name))
    }
}

/// The records of a file, in its order.
pub fn parse(bytes: &[u8]) -> Result<Vec<LdifRecord>, LdifError> {
    if bytes.len() > LARGEST_FILE {
        return Err(LdifError::FileTooLarge(bytes.len()));
    }
    let mut records = Vec::new();
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut lines = (1..).zip(text.split(|byte| *byte == b'\n').map(without_cr)).peekable();
    while let Some((number, first)) = lines.next() {
        let mut line = Cow::Borrowed(first);
        // A blank line ends a record and is not continued: RFC 2849 note 2 folds lines that hold something.
        while !line.is_empty()
            && let Some((_, more)) = lines.next_if(|(_, next)| next.starts_with(b" "))
        {
            line.to_mut().extend(more.iter().skip(1));
            if line.len() > LONGEST_LINE {
                break;
            }
        }
        if line.len() > LONGEST_LINE {
            return Err(LdifError::LineTooLong(number));
        }
        read_line(&mut records, number, &line)?;
    }
    Ok(records.into_iter().map(|open| open.record).collect())
}

/// A record and whether lines may still join it: a blank line closes it.
struct Open {
    record: LdifRecord,
    closed: bool,
}

/// Takes one unfolded line.
fn read_line(records: &mut Vec<Open>, line: usize, text: &[u8]) -> Result<(), LdifError> {
    if text.trim_ascii().is_empty() {
        if let Some(open) = records.last_mut() {
            open.closed = true;
        }
        return Ok(());
    }
    if text.starts_with(b"#") {
        return Ok(());
    }
    if text.starts_with(b" ") {
        return Err(LdifError::ContinuesNothing(line));
    }
    let colon = memchr::memchr(b':', text);
    let (name, specification) = colon
        .and_then(|at| text.split_at_checked(at))
        .and_then(|(name, rest)| Some((attribute_name(name)?, rest.get(1..)?)))
        .ok_or_else(|| LdifError::NoAttribute { line, text: excerpt(text) })?;
    let value = value(line, specification)?;
    match name.as_str() {
        "dn" => {
            let dn = String::from_utf8(value).ok().filter(|dn| !dn.trim().is_empty()).ok_or(LdifError::Dn(line))?;
            records.push(Open { record: LdifRecord { line, dn, attributes: Vec::new() }, closed: false });
        }
        "version" if records.is_empty() => {
            if value.trim_ascii() != b"1" {
                return Err(LdifError::Version { line, found: excerpt(&value) });
            }
        }
        "changetype" | "control" => return Err(LdifError::Change(line)),
        _ => match records.last_mut().filter(|open| !open.closed) {
            Some(open) => open.record.attributes.push(Attribute { line, name, value }),
            None => return Err(LdifError::OutsideRecord { line, text: excerpt(text) }),
        },
    }
    Ok(())
}

/// An attribute description (RFC 4512 §2.5) in lower case and without `;binary`; none if it is not one.
fn attribute_name(description: &[u8]) -> Option<String> {
    let description = std::str::from_utf8(description).ok()?.to_ascii_lowercase();
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
    };
    if !description.split(';').all(is_word) {
        return None;
    }
    Some(description.split(';').filter(|word| *word != "binary").collect::<Vec<_>>().join(";"))
}

/// What follows the first colon of an attribute line.
fn value(line: usize, specification: &[u8]) -> Result<Vec<u8>, LdifError> {
    match specification.split_first() {
        Some((b'<', _)) => Err(LdifError::Url(line)),
        Some((b':', encoded)) => {
            let encoded: Vec<u8> = encoded.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
            STANDARD.decode(encoded).map_err(|source| LdifError::Base64 { line, source })
        }
        _ => Ok(specification.iter().copied().skip_while(|byte| *byte == b' ').collect()),
    }
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn excerpt(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().take(EXCERPT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(record: &LdifRecord, name: &str) -> Vec<String> {
        record.values(name).map(|attribute| String::from_utf8(attribute.value.clone()).unwrap()).collect()
    }

    #[test]
    fn a_file_becomes_records_in_its_order() {
        let text = "version: 1\n# a comment\n#  folded\n  over two lines\ndn: o=postacert\no: postacert\n\n\n\n\
                    dn: providerName=Beta,o=postacert\nobjectClass: top\nOBJECTCLASS: provider\n# between\n\
                    managedDomains: beta.example\ndescription:\nLast: no line end";
        for text in [text.to_owned(), text.replace('\n', "\r\n"), format!("\u{feff}{text}")] {
            let records = parse(text.as_bytes()).unwrap();
            assert_eq!(records.len(), 2);
            assert_eq!((records[0].line, records[0].dn.as_str()), (5, "o=postacert"));
            assert_eq!((records[1].line, records[1].dn.as_str()), (10, "providerName=Beta,o=postacert"));
            assert_eq!(values(&records[1], "objectclass"), ["top", "provider"]);
            assert_eq!(values(&records[1], "description"), [""]);
            assert_eq!(values(&records[1], "last"), ["no line end"]);
            assert_eq!(records[1].values("manageddomains").next().unwrap().line, 14);
        }
    }

    #[test]
    fn values_are_unfolded_decoded_and_lose_the_blanks_before_them_only() {
        let text = "dn:: bz1wb3N0\n YWNlcnQ=\nprovider\n Name:  Po\n ste\n   two \nblank:: IHggCg==\n\
                    providerCertificate;Binary:: AA E=\n\nutf8: x";
        let error = parse(text.as_bytes()).unwrap_err();
        assert_eq!(error, LdifError::OutsideRecord { line: 10, text: "utf8: x".into() });

        let records = parse(text.trim_end_matches("utf8: x").as_bytes()).unwrap();
        assert_eq!(records[0].dn, "o=postacert");
        assert_eq!(values(&records[0], "providername"), ["Poste  two "]);
        assert_eq!(values(&records[0], "blank"), [" x \n"]);
        assert_eq!(records[0].values("providercertificate").next().unwrap().value, [0, 1]);
    }

    #[test]
    fn an_option_other_than_binary_makes_another_attribute() {
        let records = parse(b"dn: o=x\ndescription;lang-it: a\ndescription: b\n").unwrap();
        assert_eq!(values(&records[0], "description"), ["b"]);
        assert_eq!(values(&records[0], "description;lang-it"), ["a"]);
    }

    #[test]
    fn a_dn_line_starts_a_record_also_without_a_blank_line() {
        let records = parse(b"dn: o=a\no: a\ndn: o=b\no: b\n").unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!((values(&records[0], "o"), values(&records[1], "o")), (vec!["a".into()], vec!["b".into()]));
    }

    #[test]
    fn what_needs_a_guess_is_refused_with_its_line() {
        let cases: [(&str, &str); 14] = [
            (" dn: o=x\n", "line 1: begins with a space"),
            ("dn: o=x\n\n o: x\n", "line 3: begins with a space"),
            ("dn: o=x\no\n", "line 2: \"o\" has no colon"),
            ("dn: o=x\n-\n", "line 2: \"-\" has no colon"),
            ("dn: o=x\no o: x\n", "line 2: \"o o: x\" has no colon"),
            ("dn: o=x\nattr;: x\n", "line 2: \"attr;: x\" has no colon"),
            ("dn: o=x\n\tfoo: x\n", "line 2: \"\\tfoo: x\" has no colon"),
            ("o: x\ndn: o=x\n", "line 1: \"o: x\" stands outside a record"),
            ("version: 2\ndn: o=x\n", "line 1: LDIF version \"2\""),
            ("dn: o=x\nchangetype: add\n", "line 2: a change record"),
            ("dn: o=x\njpegphoto:< file:///etc/passwd\n", "line 2: the value is a URL"),
            ("dn: o=x\no:: ???\n", "line 2: the value after `::` is not base64"),
            ("dn: \n", "line 1: the distinguished name is empty"),
            ("dn:: /w==\n", "line 1: the distinguished name is empty or not UTF-8"),
        ];
        for (text, expected) in cases {
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text:?} gives {error}");
        }
    }

    #[test]
    fn lines_of_blanks_separate_records_as_blank_lines_do() {
        assert_eq!(parse(b"").unwrap(), []);
        assert_eq!(parse(b"\n  \n\r\n").unwrap(), []);
        assert_eq!(parse(b"\n\n   \ndn: o=a\n\n  \ndn: o=b\n").unwrap().len(), 2);
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut text = b"dn: o=x\ndescription: ".to_vec();
        for _ in 0..LONGEST_LINE / 64 {
            text.extend([b'x'; 64]);
            text.extend(b"\n ");
        }
        assert_eq!(parse(&text).unwrap_err(), LdifError::LineTooLong(2));
        assert_eq!(parse(&vec![b'x'; LONGEST_LINE + 1]).unwrap_err(), LdifError::LineTooLong(1));
    }

    #[test]
    fn octets_that_are_no_text_at_all_never_panic() {
        for seed in 0..=255u8 {
            let noise: Vec<u8> =
                (0..512u32).map(|at| (at.wrapping_mul(u32::from(seed) | 1) >> 2) as u8 ^ seed).collect();
            let _ = parse(&noise);
            let _ = parse(&[b"dn: o=x\n".as_slice(), &noise].concat());
        }
    }
}
