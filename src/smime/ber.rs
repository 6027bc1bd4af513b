//! Reads BER as other providers write it (X.690 §8): indefinite lengths, constructed strings, lengths longer than needed.
//!
//! An [`Element`] is a view into the received octets, so what has a definite length (a certificate, above all) can be
//! taken exactly as it came; [`Element::to_der`] rewrites the rest in the one form that signatures are computed over.
//! What the elements mean is left to `cms.rs`. Reading never recurses deeper than [`DEEPEST_NESTING`] and never copies
//! before the lengths are known to lie inside the input; anything else is a [`BerError`].

use std::borrow::Cow;

/// A CMS signature nests about 12 levels, with distribution points in its certificates about 16.
const DEEPEST_NESTING: u8 = 32;

/// The identifier octets that are met in CMS.
pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

const CONSTRUCTED: u8 = 0x20;
const END_OF_CONTENTS: [u8; 2] = [0, 0];

/// Why octets are not BER, or not BER that occurs in CMS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BerError {
    #[error("the octets end inside an element")]
    Truncated,
    #[error("elements are nested deeper than {DEEPEST_NESTING} levels")]
    TooDeep,
    #[error("an element has a tag number above 30")]
    LongTag,
    #[error("an element announces a length of {0} octets of length")]
    LongLength(u8),
    #[error("a primitive element has an indefinite length")]
    EndlessPrimitive,
    #[error("expected tag {expected:#04x}, found {found:#04x}")]
    Tag { expected: u8, found: u8 },
    #[error("an element is missing where tag {expected:#04x} belongs")]
    Missing { expected: u8 },
}

/// One element: its identifier octet, its content, and all of it as it came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'a> {
    identifier: u8,
    content: &'a [u8],
    whole: &'a [u8],
    is_definite: bool,
    /// How many levels may still be opened below this one.
    depth_left: u8,
}

impl<'a> Element<'a> {
    /// The first element of the input; what follows it is ignored, as OpenSSL does with padding after a signature.
    pub(super) fn first(input: &'a [u8]) -> Result<Self, BerError> {
        Self::parse(input, DEEPEST_NESTING)
    }

    pub(super) fn has_tag(self, identifier: u8) -> bool {
        self.identifier == identifier
    }

    /// This element, if it has the expected tag.
    pub(super) fn expect(self, identifier: u8) -> Result<Self, BerError> {
        if !self.has_tag(identifier) {
            return Err(BerError::Tag { expected: identifier, found: self.identifier });
        }
        Ok(self)
    }

    /// The content octets; those of a constructed element are its children.
    pub(super) fn content(self) -> &'a [u8] {
        self.content
    }

    /// The elements inside a constructed element, in the order they came.
    pub(super) fn children(self) -> Children<'a> {
        Children { rest: self.content, depth_left: self.depth_left.checked_sub(1) }
    }

    /// The octets of a string, whole or in constructed pieces, whatever its tag (X.690 §8.7).
    pub(super) fn octets(self) -> Result<Cow<'a, [u8]>, BerError> {
        if self.is_primitive() {
            return Ok(Cow::Borrowed(self.content));
        }
        let mut whole = Vec::new();
        for piece in self.children() {
            whole.extend_from_slice(&piece?.octet_string()?);
        }
        Ok(Cow::Owned(whole))
    }

    /// The octets of an OCTET STRING.
    pub(super) fn octet_string(self) -> Result<Cow<'a, [u8]>, BerError> {
        if self.identifier == OCTET_STRING | CONSTRUCTED { self.octets() } else { self.expect(OCTET_STRING)?.octets() }
    }

    /// The octets as they came where the length is definite, else their DER form.
    pub(super) fn exact(self) -> Result<Cow<'a, [u8]>, BerError> {
        if self.is_definite { Ok(Cow::Borrowed(self.whole)) } else { self.to_der().map(Cow::Owned) }
    }

    /// The same with definite lengths of the shortest form and strings in one piece; sets keep their order.
    pub(super) fn to_der(self) -> Result<Vec<u8>, BerError> {
        if self.is_primitive() {
            return Ok(encode(self.identifier, self.content));
        }
        if self.identifier == OCTET_STRING | CONSTRUCTED {
            return Ok(encode(OCTET_STRING, &self.octets()?));
        }
        let children = self.children().map(|child| child?.to_der()).collect::<Result<Vec<_>, _>>()?;
        Ok(encode(self.identifier, &children.concat()))
    }

    fn is_primitive(self) -> bool {
        self.identifier & CONSTRUCTED == 0
    }

    fn parse(input: &'a [u8], depth_left: u8) -> Result<Self, BerError> {
        let (&identifier, rest) = input.split_first().ok_or(BerError::Truncated)?;
        if identifier & 0x1f == 0x1f {
            return Err(BerError::LongTag);
        }
        let (length, rest) = split_length(rest)?;
        let header = input.len() - rest.len();
        let (content_length, whole_length) = match length {
            Some(length) => (length, header.checked_add(length).ok_or(BerError::Truncated)?),
            None if identifier & CONSTRUCTED == 0 => return Err(BerError::EndlessPrimitive),
            None => {
                let length = length_before_end_of_contents(rest, depth_left)?;
                (length, header + length + END_OF_CONTENTS.len())
            }
        };
        Ok(Element {
            identifier,
            content: rest.get(..content_length).ok_or(BerError::Truncated)?,
            whole: input.get(..whole_length).ok_or(BerError::Truncated)?,
            is_definite: length.is_some(),
            depth_left,
        })
    }
}

/// The elements inside another.
#[derive(Debug, Clone)]
pub(super) struct Children<'a> {
    rest: &'a [u8],
    depth_left: Option<u8>,
}

impl<'a> Children<'a> {
    /// The next element, which must be there and have this tag.
    pub(super) fn required(&mut self, identifier: u8) -> Result<Element<'a>, BerError> {
        self.next().ok_or(BerError::Missing { expected: identifier })??.expect(identifier)
    }

    /// The next element if it has this tag; otherwise nothing is taken.
    pub(super) fn optional(&mut self, identifier: u8) -> Result<Option<Element<'a>>, BerError> {
        if self.rest.first() != Some(&identifier) {
            return Ok(None);
        }
        self.next().transpose()
    }
}

impl<'a> Iterator for Children<'a> {
    type Item = Result<Element<'a>, BerError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let next = self.depth_left.ok_or(BerError::TooDeep).and_then(|depth| Element::parse(self.rest, depth));
        // After an error nothing more can be told apart.
        self.rest = next.as_ref().ok().and_then(|element| self.rest.get(element.whole.len()..)).unwrap_or_default();
        Some(next)
    }
}

/// One DER element around a content.
pub(super) fn encode(identifier: u8, content: &[u8]) -> Vec<u8> {
    let mut element = Vec::with_capacity(content.len() + 6);
    element.push(identifier);
    match u8::try_from(content.len()) {
        Ok(short @ 0..0x80) => element.push(short),
        _ => {
            let length = content.len().to_be_bytes();
            let significant = length.iter().skip_while(|octet| **octet == 0);
            element.push(significant.clone().fold(0x80, |count, _| count + 1));
            element.extend(significant);
        }
    }
    element.extend_from_slice(content);
    element
}

/// The announced length, none if indefinite, and the octets after it.
fn split_length(input: &[u8]) -> Result<(Option<usize>, &[u8]), BerError> {
    let (&first, rest) = input.split_first().ok_or(BerError::Truncated)?;
    match first {
        0x80 => Ok((None, rest)),
        0..0x80 => Ok((Some(usize::from(first)), rest)),
        _ => {
            let count = first & 0x7f;
            let (octets, rest) = rest.split_at_checked(usize::from(count)).ok_or(BerError::Truncated)?;
            octets
                .iter()
                .try_fold(0_u32, |length, octet| length.checked_mul(0x100)?.checked_add(u32::from(*octet)))
                .and_then(|length| usize::try_from(length).ok())
                .map(|length| (Some(length), rest))
                .ok_or(BerError::LongLength(count))
        }
    }
}

/// The length of the elements up to the end-of-contents octets that close an indefinite length (X.690 §8.1.5).
fn length_before_end_of_contents(input: &[u8], depth_left: u8) -> Result<usize, BerError> {
    let depth_left = depth_left.checked_sub(1).ok_or(BerError::TooDeep)?;
    let mut rest = input;
    while !rest.starts_with(&END_OF_CONTENTS) {
        let element = Element::parse(rest, depth_left)?;
        rest = rest.get(element.whole.len()..).ok_or(BerError::Truncated)?;
    }
    Ok(input.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(input: &[u8]) -> Result<Vec<u8>, BerError> {
        Element::first(input)?.to_der()
    }

    #[test]
    fn an_indefinite_length_becomes_definite() {
        assert_eq!(der(&[0x30, 0x80, 0x02, 1, 5, 0, 0]), Ok(vec![0x30, 3, 0x02, 1, 5]));
        assert_eq!(der(&[0x30, 0x80, 0x30, 0x80, 0, 0, 0, 0]), Ok(vec![0x30, 2, 0x30, 0]));
    }

    #[test]
    fn a_string_in_pieces_becomes_one() {
        let pieces = [0x24, 0x80, 0x04, 1, b'a', 0x24, 3, 0x04, 1, b'b', 0x04, 0, 0, 0];
        assert_eq!(der(&pieces), Ok(vec![0x04, 2, b'a', b'b']));
        assert_eq!(*Element::first(&[0xa0, 3, 0x04, 1, b'x']).unwrap().octets().unwrap(), *b"x");
    }

    #[test]
    fn a_length_takes_its_shortest_form() {
        assert_eq!(der(&[0x04, 0x83, 0, 0, 1, 9]), Ok(vec![0x04, 1, 9]));
        let long = [&[0x04, 0x84, 0, 0, 1, 0x2c][..], &[7; 300]].concat();
        assert_eq!(der(&long).unwrap(), [&[0x04, 0x82, 1, 0x2c][..], &[7; 300]].concat());
        let middle = [&[0x04, 0x82, 0, 0x80][..], &[7; 128]].concat();
        assert_eq!(der(&middle).unwrap(), [&[0x04, 0x81, 0x80][..], &[7; 128]].concat());
    }

    #[test]
    fn what_has_a_definite_length_can_be_taken_exactly() {
        let odd = [0x30, 0x81, 3, 0x02, 1, 5];
        assert_eq!(*Element::first(&odd).unwrap().exact().unwrap(), odd);
        let endless = [0x30, 0x80, 0x02, 1, 5, 0, 0];
        assert_eq!(*Element::first(&endless).unwrap().exact().unwrap(), [0x30, 3, 0x02, 1, 5]);
    }

    #[test]
    fn what_follows_the_first_element_is_ignored() {
        assert_eq!(der(&[0x02, 1, 5, 0, 0, 0]), Ok(vec![0x02, 1, 5]));
    }

    #[test]
    fn zero_octets_inside_a_primitive_do_not_end_the_outer_element() {
        assert_eq!(der(&[0x30, 0x80, 0x04, 2, 0, 0, 0, 0]), Ok(vec![0x30, 4, 0x04, 2, 0, 0]));
    }

    #[test]
    fn broken_elements_are_told_apart() {
        assert_eq!(der(&[]), Err(BerError::Truncated));
        assert_eq!(der(&[0x30]), Err(BerError::Truncated));
        assert_eq!(der(&[0x30, 3, 0x02, 1]), Err(BerError::Truncated));
        assert_eq!(der(&[0x30, 0x80, 0x02, 1, 5]), Err(BerError::Truncated));
        assert_eq!(der(&[0x30, 0x82, 1]), Err(BerError::Truncated));
        assert_eq!(der(&[0x30, 2, 0x02, 5]), Err(BerError::Truncated));
        assert_eq!(der(&[0x1f, 0x81, 1, 0]), Err(BerError::LongTag));
        assert_eq!(der(&[0x04, 0x80, 0, 0]), Err(BerError::EndlessPrimitive));
        assert_eq!(der(&[0x04, 0x85, 1, 0, 0, 0, 0]), Err(BerError::LongLength(5)));
        assert_eq!(der(&[0x04, 0xff]), Err(BerError::Truncated));
        assert_eq!(der(&[0x04, 0x84, 0xff, 0xff, 0xff, 0xff]), Err(BerError::Truncated));
        assert_eq!(der(&[0x24, 3, 0x02, 1, 5]), Err(BerError::Tag { expected: OCTET_STRING, found: INTEGER }));
    }

    #[test]
    fn nesting_has_a_limit() {
        let definite = (0..40).fold(Vec::new(), |inner, _| encode(SEQUENCE, &inner));
        assert_eq!(der(&definite), Err(BerError::TooDeep));
        assert_eq!(der(&[0x30, 0x80].repeat(100_000)), Err(BerError::TooDeep));
        assert!(der(&(0..30).fold(Vec::new(), |inner, _| encode(SEQUENCE, &inner))).is_ok());
    }
}
