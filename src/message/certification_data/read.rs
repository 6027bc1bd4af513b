//! The reader of daticert.xml as any provider writes it: by the DTD, without DOCTYPE, within limits.

use std::str::FromStr;

use roxmltree::{Document, Node, ParsingOptions};

use super::{CertificationData, TransactionFacts};
use crate::message::header::printable;
use crate::message::wire::{self, ErrorType, Kind};
use crate::model::{
    Address, InvalidAddress, InvalidMsgid, Msgid, PecMsgid, Recipient, RecipientType, TemporalReference,
};

/// Some 500 recipients and a long subject need 100 kB.
const LARGEST_XML: usize = 4 * 1024 * 1024;
const MOST_NODES: u32 = 200_000;

/// Why certification data is not valid.
#[derive(Debug, thiserror::Error)]
pub enum InvalidCertificationData {
    #[error("daticert.xml has {0} octets, more than anybody needs")]
    TooLarge(usize),
    #[error("daticert.xml is not UTF-8")]
    NotUtf8,
    #[error("daticert.xml is not well-formed: {0}")]
    NotWellFormed(#[from] roxmltree::Error),
    #[error("the element {0} is missing")]
    Missing(&'static str),
    #[error("the element {0} stands more than once")]
    Repeated(&'static str),
    #[error("{place} has the unknown value {value:?}")]
    UnknownValue { place: &'static str, value: String },
    #[error("{place} holds no address")]
    Address { place: &'static str, source: InvalidAddress },
    #[error("{place} holds no message identifier")]
    Msgid { place: &'static str, source: InvalidMsgid },
    #[error("data is {day:?} {time:?} zona {zone:?}, not dd/mm/yyyy hh:mm:ss +hhmm")]
    Time { day: String, time: String, zone: String },
}

impl CertificationData {
    /// Reads the content of a daticert.xml.
    pub fn from_xml(octets: &[u8]) -> Result<Self, InvalidCertificationData> {
        if octets.len() > LARGEST_XML {
            return Err(InvalidCertificationData::TooLarge(octets.len()));
        }
        let text = std::str::from_utf8(octets).map_err(|_| InvalidCertificationData::NotUtf8)?;
        // A DOCTYPE could bring entities and other defaults than the law's.
        let options = ParsingOptions { allow_dtd: false, nodes_limit: MOST_NODES, ..Default::default() };
        let document = Document::parse_with_options(text.trim_start_matches('\u{feff}').trim(), options)?;
        let root = document.root_element();
        if root.tag_name().name() != "postacert" {
            return Err(InvalidCertificationData::Missing("postacert"));
        }
        let heading = only(root, "intestazione")?;
        let data = only(root, "dati")?;
        Ok(CertificationData {
            kind: token(root.attribute("tipo"), "tipo", Kind::from_token)?,
            error: token(Some(root.attribute("errore").unwrap_or("nessuno")), "errore", ErrorType::from_token)?,
            facts: facts(heading, data)?,
            issuer: text_of(only(data, "gestore-emittente")?),
            at: instant(only(data, "data")?)?,
            requested: optional(data, "ricevuta")?
                .map(|node| token(node.attribute("tipo"), "ricevuta", wire::receipt_from_token))
                .transpose()?,
            recipient: optional(data, "consegna")?.map(|node| parsed(node, "consegna")).transpose()?,
            taken: all(data, "ricezione").map(|node| parsed(node, "ricezione")).collect::<Result<_, _>>()?,
            error_text: optional(data, "errore-esteso")?.map(text_of),
        })
    }
}

fn facts(heading: Node, data: Node) -> Result<TransactionFacts, InvalidCertificationData> {
    let recipients: Vec<Recipient> = all(heading, "destinatari").map(recipient).collect::<Result<_, _>>()?;
    if recipients.is_empty() {
        return Err(InvalidCertificationData::Missing("destinatari"));
    }
    let msgid = |node| text_of(node).parse::<Msgid>();
    let id = only(data, "identificativo")?;
    Ok(TransactionFacts {
        sender: parsed(only(heading, "mittente")?, "mittente")?,
        recipients,
        replies: text_of(only(heading, "risposte")?),
        subject: optional(heading, "oggetto")?.map(text_of),
        id: text_of(id)
            .parse::<PecMsgid>()
            .map_err(|source| InvalidCertificationData::Msgid { place: "identificativo", source })?,
        msgid: optional(data, "msgid")?
            .filter(|node| !text_of(*node).is_empty())
            .map(msgid)
            .transpose()
            .map_err(|source| InvalidCertificationData::Msgid { place: "msgid", source })?,
    })
}

fn recipient(node: Node) -> Result<Recipient, InvalidCertificationData> {
    let kind = match node.attribute("tipo").unwrap_or("certificato") {
        "certificato" => RecipientType::Certified,
        "esterno" => RecipientType::External,
        other => return Err(InvalidCertificationData::UnknownValue { place: "destinatari", value: other.to_owned() }),
    };
    Ok(Recipient { address: parsed(node, "destinatari")?, kind })
}

fn all<'a>(parent: Node<'a, 'a>, name: &'static str) -> impl Iterator<Item = Node<'a, 'a>> {
    parent.children().filter(move |node| node.tag_name().name() == name)
}

fn optional<'a>(parent: Node<'a, 'a>, name: &'static str) -> Result<Option<Node<'a, 'a>>, InvalidCertificationData> {
    let mut nodes = all(parent, name);
    match (nodes.next(), nodes.next()) {
        (_, Some(_)) => Err(InvalidCertificationData::Repeated(name)),
        (first, None) => Ok(first),
    }
}

fn only<'a>(parent: Node<'a, 'a>, name: &'static str) -> Result<Node<'a, 'a>, InvalidCertificationData> {
    optional(parent, name)?.ok_or(InvalidCertificationData::Missing(name))
}

/// All character data of an element: a comment or a CDATA section inside must not hide a part of it.
fn text_of(node: Node) -> String {
    let text: String = node.descendants().filter(Node::is_text).filter_map(|text| text.text()).collect();
    printable(&text)
}

fn parsed(node: Node, place: &'static str) -> Result<Address, InvalidCertificationData> {
    Address::from_str(&text_of(node)).map_err(|source| InvalidCertificationData::Address { place, source })
}

fn token<T>(
    value: Option<&str>,
    place: &'static str,
    known: impl Fn(&str) -> Option<T>,
) -> Result<T, InvalidCertificationData> {
    let value = value.ok_or(InvalidCertificationData::Missing(place))?.trim();
    known(value).ok_or_else(|| InvalidCertificationData::UnknownValue { place, value: value.to_owned() })
}

fn instant(node: Node) -> Result<TemporalReference, InvalidCertificationData> {
    let (day, time) = (text_of(only(node, "giorno")?), text_of(only(node, "ora")?));
    let zone = node.attribute("zona").unwrap_or_default().trim().to_owned();
    let stamp = jiff::fmt::strtime::parse("%d/%m/%Y %H:%M:%S %z", format!("{day} {time} {zone}"));
    match stamp.and_then(|stamp| stamp.to_timestamp()) {
        Ok(stamp) => Ok(TemporalReference::from_unix(stamp.as_second())),
        Err(_) => Err(InvalidCertificationData::Time { day, time, zone }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ReceiptType;

    fn sample() -> CertificationData {
        let facts = TransactionFacts {
            sender: "anna@alfa.example".parse().unwrap(),
            recipients: vec![
                Recipient { address: "bruno@beta.example".parse().unwrap(), kind: RecipientType::Certified },
                Recipient { address: "mario@gamma.example".parse().unwrap(), kind: RecipientType::External },
            ],
            replies: "anna@alfa.example".into(),
            subject: Some("Perché <così> & \"altro\" 🎻".into()),
            id: "pec.1@alfa.example".parse().unwrap(),
            msgid: Some("<x&y@client.example>".parse().unwrap()),
        };
        let at = TemporalReference::from_unix(1_721_032_245);
        CertificationData {
            requested: Some(ReceiptType::Brief),
            recipient: Some("bruno@beta.example".parse().unwrap()),
            taken: vec!["bruno@beta.example".parse().unwrap()],
            error_text: Some("5.1.1 - ACME - indirizzo non valido".into()),
            error: ErrorType::NoRecipient,
            ..CertificationData::new(Kind::NonDelivery, facts, "ACME PEC S.p.A.", at)
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let data = sample();
        assert_eq!(CertificationData::from_xml(data.to_xml().as_bytes()).unwrap(), data);
    }

    #[test]
    fn what_others_write_is_read() {
        let xml = sample().to_xml();
        let odd = xml
            .replace("  <dati>", "  <!-- x --><dati>")
            .replace("anna@alfa.example</mittente>", "\n anna@<!-- -->alfa.example\n</mittente>")
            .replace(" tipo=\"certificato\"", "")
            .replace(" errore=\"no-dest\"", "");
        let read = CertificationData::from_xml(odd.as_bytes()).unwrap();
        assert_eq!(CertificationData { error: ErrorType::NoRecipient, ..read }, sample());
        let bom = format!("\u{feff}{xml}");
        assert_eq!(CertificationData::from_xml(bom.as_bytes()).unwrap(), sample());
    }

    #[test]
    fn what_is_not_valid_is_refused_with_its_place() {
        let xml = sample().to_xml();
        for (from, to, expected) in [
            ("<?xml", "<!DOCTYPE postacert><?xml", "not well-formed"),
            ("?>\n", "?>\n<!DOCTYPE postacert [<!ENTITY a \"b\">]>\n", "not well-formed"),
            ("tipo=\"errore-consegna\"", "tipo=\"altro\"", "tipo has the unknown value"),
            ("<mittente>anna@alfa.example</mittente>", "", "element mittente is missing"),
            ("<mittente>", "<mittente>a@b.example</mittente><mittente>", "stands more than once"),
            ("anna@alfa.example</mittente>", "anna</mittente>", "mittente holds no address"),
            ("15/07/2024", "15/13/2024", "not dd/mm/yyyy"),
            ("zona=\"+0200\"", "zona=\"\"", "not dd/mm/yyyy"),
            ("pec.1@alfa.example", "pec 1", "identificativo holds no message identifier"),
            ("<postacert", "<altro", "not well-formed"),
            ("tipo=\"esterno\"", "tipo=\"boh\"", "destinatari has the unknown value"),
        ] {
            assert!(xml.contains(from), "{from}");
            let error = CertificationData::from_xml(xml.replacen(from, to, 1).as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(matches!(CertificationData::from_xml(b"\xff"), Err(InvalidCertificationData::NotUtf8)));
        assert!(CertificationData::from_xml(&vec![b' '; LARGEST_XML + 1]).is_err());
    }
}
