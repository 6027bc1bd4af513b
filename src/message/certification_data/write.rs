//! Certification data as XML: the same values always give the same octets, so that a receipt can be written again.

use std::fmt::Write;

use super::CertificationData;
use crate::message::encode::escape_markup;
use crate::message::wire;

impl CertificationData {
    /// The content of daticert.xml. Every attribute is written out, also the DTD's defaults.
    pub fn to_xml(&self) -> String {
        let mut xml = String::with_capacity(1024);
        let facts = &self.facts;
        xml.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        _ = writeln!(xml, "<postacert tipo=\"{}\" errore=\"{}\">", self.kind.token(), self.error.token());
        xml.push_str("  <intestazione>\n");
        element(&mut xml, "mittente", "", facts.sender.as_str());
        for recipient in &facts.recipients {
            let kind = format!(" tipo=\"{}\"", wire::recipient_token(recipient.kind));
            element(&mut xml, "destinatari", &kind, recipient.address.as_str());
        }
        element(&mut xml, "risposte", "", &facts.replies);
        if let Some(subject) = &facts.subject {
            element(&mut xml, "oggetto", "", subject);
        }
        xml.push_str("  </intestazione>\n  <dati>\n");
        element(&mut xml, "gestore-emittente", "", &self.issuer);
        _ = writeln!(xml, "    <data zona=\"{}\">", self.at.zone());
        _ = writeln!(xml, "      <giorno>{}</giorno>\n      <ora>{}</ora>", self.at.day(), self.at.time());
        xml.push_str("    </data>\n");
        element(&mut xml, "identificativo", "", facts.id.as_str());
        if let Some(msgid) = &facts.msgid {
            element(&mut xml, "msgid", "", msgid.as_str());
        }
        if let Some(requested) = self.requested {
            _ = writeln!(xml, "    <ricevuta tipo=\"{}\"/>", wire::receipt_token(requested));
        }
        if let Some(recipient) = &self.recipient {
            element(&mut xml, "consegna", "", recipient.as_str());
        }
        for recipient in &self.taken {
            element(&mut xml, "ricezione", "", recipient.as_str());
        }
        if let Some(text) = &self.error_text {
            element(&mut xml, "errore-esteso", "", text);
        }
        xml.push_str("  </dati>\n</postacert>\n");
        xml
    }
}

fn element(xml: &mut String, name: &str, attributes: &str, content: &str) {
    _ = writeln!(xml, "    <{name}{attributes}>{}</{name}>", escape_markup(content));
}
