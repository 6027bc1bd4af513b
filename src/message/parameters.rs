//! Parameters of MIME fields that RFC 2231 §3 and §4 spread over several pieces, such as `name*0*=UTF-8''per; name*1*=%C3`.
//!
//! The mail parser decodes each piece by itself, which breaks characters at the seams and forgets the character set after
//! the first. Here the octets of all pieces are joined before they are decoded. What is not of the form is passed over.

use std::collections::BTreeMap;

use mail_parser::decoders::charsets::map::charset_decoder;

/// More pieces than any name needs; the number comes from outside.
const MOST_PIECES: usize = 1000;

/// Every parameter of a field's value that is given in numbered pieces, with its lower-case name.
pub fn continued(value: &[u8]) -> Vec<(String, String)> {
    let mut pieces: BTreeMap<String, BTreeMap<usize, (bool, Vec<u8>)>> = BTreeMap::new();
    for (key, octets) in parameters(value) {
        let mut words = key.split('*');
        let (Some(name), Some(number)) = (words.next(), words.next().and_then(|text| text.parse().ok())) else {
            continue;
        };
        if number < MOST_PIECES {
            let is_coded = words.next() == Some("");
            pieces.entry(name.to_owned()).or_default().insert(number, (is_coded, octets));
        }
    }
    pieces.into_iter().map(|(name, pieces)| (name, joined(pieces))).collect()
}

/// Joins the pieces from the first to the last without a gap.
fn joined(pieces: BTreeMap<usize, (bool, Vec<u8>)>) -> String {
    let (mut whole, mut charset) = (Vec::new(), Vec::new());
    for (expected, (number, (is_coded, octets))) in pieces.into_iter().enumerate() {
        if number != expected {
            break;
        }
        if !is_coded {
            whole.extend(octets);
            continue;
        }
        let mut text = octets.as_slice();
        if number == 0 {
            let mut thirds = octets.splitn(3, |byte| *byte == b'\'');
            if let (Some(set), Some(_language), Some(rest)) = (thirds.next(), thirds.next(), thirds.next()) {
                charset = set.to_vec();
                text = rest;
            }
        }
        whole.extend(without_percents(text));
    }
    match charset_decoder(&charset) {
        Some(decode) => decode(&whole),
        None => String::from_utf8_lossy(&whole).into_owned(),
    }
}

fn without_percents(text: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let coded = digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        octets.push(coded.unwrap_or(*first));
        rest = if coded.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    octets
}

/// Names in lower case and values without their quotes, of everything behind the first semicolon.
fn parameters(value: &[u8]) -> Vec<(String, Vec<u8>)> {
    let (mut fields, mut field, mut in_quotes) = (Vec::new(), Vec::new(), false);
    let mut bytes = value.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_quotes = !in_quotes,
            b'\\' if in_quotes => field.extend(bytes.next()),
            b';' if !in_quotes => fields.push(std::mem::take(&mut field)),
            b'\r' | b'\n' => {}
            b' ' | b'\t' if !in_quotes => {}
            _ => field.push(byte),
        }
    }
    fields.push(field);
    let named = fields.into_iter().skip(1).filter_map(|field| {
        let at = field.iter().position(|byte| *byte == b'=')?;
        let (name, value) = field.split_at_checked(at)?;
        Some((String::from_utf8_lossy(name).to_ascii_lowercase(), value.get(1..)?.to_vec()))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(value: &str) -> Vec<String> {
        continued(value.as_bytes()).into_iter().map(|(key, text)| format!("{key}={text}")).collect()
    }

    #[test]
    fn pieces_are_joined_before_they_are_decoded() {
        assert_eq!(name("x/y; name*0*=UTF-8''perch%C3;\r\n NAME*1*=%A9; name*2=\"; no.pdf\""), ["name=perché; no.pdf"]);
        assert_eq!(name("x/y; name*1*=ch%E9; name*0*=iso-8859-1'it'per"), ["name=perché"]);
        assert_eq!(name("x/y; filename*0=\"a \\\"b \" ; filename*1=c; name=d"), ["filename=a \"b c"]);
    }

    #[test]
    fn odd_pieces_are_passed_over() {
        assert_eq!(name("x/y; name*0=a; name*2=c; name*x=d; name*=e; *0=f"), ["=f", "name=a"]);
        assert_eq!(name("x/y; name*0*=a%zz%4"), ["name=a%zz%4"]);
        for value in
            ["", ";", "x;=", "x; *", "x; name*0", "x; name*99999999999999999999=a", "x; name*1000=a", "\"", "x;\\"]
        {
            assert_eq!(name(value), Vec::<String>::new(), "{value}");
        }
    }
}
