//! Refusals as SMTP replies. Pure.

use crate::access_point::DialogueRefusal;
use crate::message::defect::Defect;
use crate::operations::ports::Reply;

use super::conversation::Untransferable;

/// indymilter takes at most 32 lines in a reply, each of up to 980 octets; Postfix logs the first.
const MOST_REPLY_LINES: usize = 16;
const LONGEST_REPLY_LINE: usize = 400;

/// A reply that a client gets, every line of it printable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub code: &'static str,
    /// The enhanced status code (RFC 3463).
    pub status: String,
    pub lines: Vec<String>,
}

impl Answer {
    fn new(code: &'static str, status: impl Into<String>, lines: Vec<String>) -> Self {
        let printable = |c: char| if (' '..='~').contains(&c) { c } else { ' ' };
        let line = |text: String| text.chars().take(LONGEST_REPLY_LINE).map(printable).collect();
        Answer { code, status: status.into(), lines: lines.into_iter().map(line).collect() }
    }

    pub fn to_refusal(refusal: &DialogueRefusal) -> Self {
        let (code, status) = refusal.codes();
        Self::new(code, status, vec![refusal.to_string()])
    }

    pub fn to_untransferable(defect: Untransferable) -> Self {
        match defect {
            Untransferable::TooLarge(limit) => {
                Self::new("552", "5.3.4", vec![format!("il messaggio supera il limite di {limit} byte")])
            }
            Untransferable::CutHeader => Self::new("550", "5.6.0", vec![Defect::LongHeader.phrase()]),
            Untransferable::LargeHeader => Self::new("550", "5.6.0", vec![Defect::LargeHeader.phrase()]),
        }
    }

    /// One answer out of the answers of all recipients: the first that asks to try again, or else the first.
    pub fn to_all(replies: &[Reply]) -> Option<Self> {
        let decisive = replies.iter().find(|reply| !reply.is_permanent_failure()).or(replies.first())?;
        let (code, class) = if decisive.is_permanent_failure() { ("550", "5.") } else { ("451", "4.") };
        let status_and_text = |reply: &Reply| match reply.text.split_once(' ') {
            Some((status, text)) if is_status(status) => (status.to_owned(), text.to_owned()),
            _ => (format!("{class}0.0"), reply.text.clone()),
        };
        let (status, _) = status_and_text(decisive);
        let same = replies.iter().filter(|reply| reply.is_permanent_failure() == decisive.is_permanent_failure());
        Some(Self::new(code, status, same.take(MOST_REPLY_LINES).map(|reply| status_and_text(reply).1).collect()))
    }

    /// Whether it asks to try again.
    pub fn is_temporary(&self) -> bool {
        self.code.starts_with('4')
    }
}

/// As it stands in the log: `550 5.7.1 first line`, further lines behind line feeds.
impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.code, self.status, self.lines.join("\n"))
    }
}

/// An enhanced status code (RFC 3463).
fn is_status(word: &str) -> bool {
    word.split('.').count() == 3 && word.split('.').all(|number| number.parse::<u16>().is_ok_and(|one| one < 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_stands_for_all_recipients() {
        let all = |replies: &[(u16, &str)]| {
            let replies: Vec<Reply> = replies.iter().map(|(code, text)| Reply::new(*code, *text)).collect();
            Answer::to_all(&replies).map(|answer| (answer.to_string(), answer.is_temporary()))
        };
        assert_eq!(all(&[]), None);
        let refused = [(550, "5.1.1 <a> unknown"), (552, "5.2.2 <b> f\u{fc}ll"), (550, "odd")];
        assert_eq!(all(&refused), Some(("550 5.1.1 <a> unknown\n<b> f ll\nodd".to_owned(), false)));
        assert_eq!(all(&[(550, "5.1.1 a"), (451, "later")]), Some(("451 4.0.0 later".to_owned(), true)));
    }
}
