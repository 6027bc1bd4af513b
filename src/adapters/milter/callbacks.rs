//! Milter words to the model's and back; any error becomes Tempfail, and never Accept.

use std::ffi::{CStr, CString};
use std::sync::Arc;

use bytes::Bytes;
use indymilter::{
    ActionError, Actions, Callbacks, Context, EomContext, NegotiateContext, ProtoOpts, SetErrorReply, SmtpReply, Status,
};
use tracing::{error, info, warn};

use super::conversation::{Conversation, Submitter, Untransferable, path};
use super::{Milter, Role, apply};
use crate::access_point::{DialogueRefusal, Login, check_recipient, check_sender};
use crate::crash;
use crate::message::defect::Defect;
use crate::message::header::Header;
use crate::model::Address;
use crate::operations::causes;
use crate::operations::ports::{Instruments, Mailboxes, Reply};
use crate::operations::receive::{Incoming, NotReceived, Reception, receive};
use crate::operations::report::{Redirection, redirect};
use crate::operations::submit::{NotSubmitted, Outgoing, submit};
use crate::operations::triggers::{Trigger, internal_domain};

/// indymilter takes at most 32 lines in a reply, each of up to 980 octets; Postfix logs the first.
const MOST_REPLY_LINES: usize = 16;
const LONGEST_REPLY_LINE: usize = 400;

/// Why a message cannot be dealt with now.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("Postfix handed over no message: the milter conversation is out of step")]
    NoConversation,
    #[error(transparent)]
    NotSubmitted(#[from] NotSubmitted),
    #[error(transparent)]
    NotReceived(#[from] NotReceived),
    #[error("Postfix's own report cannot be taken over whole: {0:?}")]
    Untransferable(Untransferable),
    #[error("Postfix did not take an edit: {0}")]
    Edit(#[from] ActionError),
}

pub fn callbacks<M: Mailboxes, T: Instruments + Clone>(milter: Arc<Milter<M, T>>) -> Callbacks<Conversation> {
    let (at_mail, at_rcpt, at_body, at_eom) = (milter.clone(), milter.clone(), milter.clone(), milter);
    Callbacks::new()
        .on_negotiate(|context, _, offered| Box::pin(std::future::ready(negotiate(context, offered))))
        .on_mail(move |context, arguments| Box::pin(std::future::ready(at_mail.mail(context, &arguments))))
        .on_rcpt(move |context, arguments| Box::pin(std::future::ready(at_rcpt.rcpt(context, &arguments))))
        .on_header(|context, name, value| Box::pin(std::future::ready(header(context, &name, &value))))
        .on_body(move |context, piece| Box::pin(std::future::ready(at_body.body(context, &piece))))
        .on_eom(move |context| {
            let milter = at_eom.clone();
            Box::pin(async move { milter.eom(context).await })
        })
        .on_abort(|context| {
            context.data = None;
            Box::pin(std::future::ready(Status::Continue))
        })
}

fn negotiate(context: &mut NegotiateContext<Conversation>, offered: ProtoOpts) -> Status {
    context.requested_actions |= Actions::ADD_HEADER
        | Actions::CHANGE_HEADER
        | Actions::REPLACE_BODY
        | Actions::CHANGE_SENDER
        | Actions::ADD_RCPT
        | Actions::DELETE_RCPT;
    let needed = ProtoOpts::LEADING_SPACE | ProtoOpts::NOREPLY_HEADER | ProtoOpts::NOREPLY_BODY;
    if !offered.contains(needed) {
        error!("Postfix is too old or milter_protocol is below 6: headers could not be kept as they are");
        return Status::Reject;
    }
    // Headers and body pieces need no answer one by one: that is most of a milter's round trips.
    let unused =
        ProtoOpts::NO_CONNECT | ProtoOpts::NO_HELO | ProtoOpts::NO_DATA | ProtoOpts::NO_EOH | ProtoOpts::NO_UNKNOWN;
    context.requested_opts |= needed | (unused & offered);
    Status::Continue
}

fn header(context: &mut Context<Conversation>, name: &CStr, value: &CStr) -> Status {
    if let Some(conversation) = &mut context.data {
        conversation.header(name.to_bytes(), value.to_bytes());
    }
    Status::Noreply
}

impl<M: Mailboxes, T: Instruments + Clone> Milter<M, T> {
    fn mail(&self, context: &mut Context<Conversation>, arguments: &[CString]) -> Status {
        let sender = arguments.first().map(|argument| path(argument.to_bytes())).unwrap_or_default();
        if self.role != Role::Access {
            context.data = Some(Conversation::new(sender, None));
            return Status::Continue;
        }
        let current = self.current.now();
        let text = |name: &CStr| context.macros.get(name).map(|value| value.to_string_lossy().into_owned());
        let (name, tls) = (text(c"{auth_authen}"), text(c"{tls_version}"));
        let login = Login { name: name.as_deref(), is_encrypted: tls.is_some_and(|version| !version.is_empty()) };
        let may_send_as = |login: &str, address: &Address| current.senders.may_send_as(login, address);
        match check_sender(login, &sender, |address| current.manages(address), may_send_as) {
            Ok(address) => {
                let submitter = Submitter { login: name.unwrap_or_default(), address };
                context.data = Some(Conversation::new(sender, Some(submitter)));
                Status::Continue
            }
            Err(refusal) => {
                warn!(login = login.name.unwrap_or("-"), %sender, %refusal, "submission refused at MAIL");
                refuse(&mut context.reply, &refusal)
            }
        }
    }

    fn rcpt(&self, context: &mut Context<Conversation>, arguments: &[CString]) -> Status {
        let recipient = arguments.first().map(|argument| path(argument.to_bytes())).unwrap_or_default();
        let (Some(conversation), Some(internal)) = (&mut context.data, internal_domain()) else {
            return Status::Tempfail;
        };
        if self.role == Role::Bounces {
            conversation.recipients.push(recipient);
            return Status::Continue;
        }
        match check_recipient(&recipient, &internal) {
            // What is no address for us may be one for Postfix: ordinary mail has odd ones.
            Err(refusal @ DialogueRefusal::InvalidAddress(_)) if self.role == Role::Access => {
                refuse(&mut context.reply, &refusal)
            }
            Err(refusal @ DialogueRefusal::InternalRecipient(_)) => {
                let login = conversation.submitter.as_ref().map_or("-", |submitter| &submitter.login);
                warn!(login, sender = %conversation.sender, %recipient, "a recipient in the internal domain was refused");
                refuse(&mut context.reply, &refusal)
            }
            _ => {
                conversation.recipients.push(recipient);
                Status::Continue
            }
        }
    }

    fn body(&self, context: &mut Context<Conversation>, piece: &Bytes) -> Status {
        if let Some(conversation) = &mut context.data {
            conversation.body(piece, self.message_limit);
        }
        Status::Noreply
    }

    async fn eom(&self, context: &mut EomContext<Conversation>) -> Status {
        crash::point("eom-before");
        let queue_id = context.macros.get(c"i").map(|id| id.to_string_lossy().into_owned()).unwrap_or_default();
        let result = match self.role {
            Role::Access => self.submission(context, &queue_id).await,
            Role::Incoming => self.arrival(context, &queue_id).await,
            Role::Bounces => self.report(context, &queue_id).await,
        };
        crash::point("eom-after");
        result.unwrap_or_else(|fault| {
            let fault = causes(&fault);
            error!(queue_id, fault, "message not accepted for now, the client will try again");
            Status::Tempfail
        })
    }

    async fn submission(&self, context: &mut EomContext<Conversation>, queue_id: &str) -> Result<Status, Fault> {
        let mut conversation = context.data.take().ok_or(Fault::NoConversation)?;
        let Submitter { login, address: sender } = conversation.submitter.clone().ok_or(Fault::NoConversation)?;
        let message = match conversation.take_message() {
            Ok(message) => message,
            Err(defect) => return Ok(untransferable(&mut context.reply, queue_id, &login, defect)),
        };
        let mut recipients: Vec<Address> = Vec::with_capacity(conversation.recipients.len());
        let mut seen = std::collections::HashSet::new();
        for recipient in conversation.recipients.iter().filter_map(|text| text.parse::<Address>().ok()) {
            if seen.insert(recipient.clone()) {
                recipients.push(recipient);
            }
        }
        let author = sender.clone();
        let outgoing = Outgoing { queue_id: queue_id.to_owned(), sender, recipients, message: message.clone() };
        let replacement = submit(self.current.now(), &self.viruses, &self.instruments, outgoing).await?;
        apply::replace(&context.actions, &Header::read(&message), &conversation.recipients, &replacement).await?;
        let summary = &replacement.summary;
        match &replacement.envelope {
            None => info!(queue_id, login, sender = %author, %summary, "submission"),
            Some(_) => warn!(queue_id, login, sender = %author, %summary, "submission refused by the formal checks"),
        }
        Ok(Status::Accept)
    }

    async fn arrival(&self, context: &mut EomContext<Conversation>, queue_id: &str) -> Result<Status, Fault> {
        let mut conversation = context.data.take().ok_or(Fault::NoConversation)?;
        let message = match conversation.take_message() {
            Ok(message) => message,
            Err(defect) => return Ok(untransferable(&mut context.reply, queue_id, "-", defect)),
        };
        let Conversation { sender, recipients, .. } = conversation;
        let incoming = Incoming {
            queue_id: queue_id.to_owned(),
            sender: sender.clone(),
            recipients: recipients.clone(),
            message: message.clone(),
        };
        let reception =
            receive(self.current.now(), &self.mailboxes, &self.viruses, &self.instruments, incoming).await?;
        let summary = match reception {
            Reception::Pass { trigger, envelope, summary } => {
                if let Some(envelope) = envelope {
                    apply::readdress(&context.actions, &recipients, &envelope).await?;
                }
                apply::add_triggers(&context.actions, trigger.as_slice()).await?;
                summary
            }
            Reception::Replace(replacement) => {
                apply::replace(&context.actions, &Header::read(&message), &recipients, &replacement).await?;
                replacement.summary
            }
            Reception::Refuse(replies) => {
                warn!(queue_id, %sender, ?recipients, ?replies, "ordinary mail refused");
                return Ok(refuse_all(&mut context.reply, &replies));
            }
        };
        info!(queue_id, %sender, %summary, "reception");
        Ok(Status::Accept)
    }

    async fn report(&self, context: &mut EomContext<Conversation>, queue_id: &str) -> Result<Status, Fault> {
        let mut conversation = context.data.take().ok_or(Fault::NoConversation)?;
        let message = conversation.take_message().map_err(Fault::Untransferable)?;
        match redirect(&conversation.sender, message) {
            Redirection::None => Ok(Status::Accept),
            Redirection::Drop(id) => {
                info!(queue_id, %id, "a report of Postfix that tells no failure is dropped");
                Ok(Status::Discard)
            }
            Redirection::ToHop(id) => {
                apply::redirect(&context.actions, &conversation.recipients, Trigger::NonDelivery).await?;
                info!(queue_id, %id, "a report of Postfix becomes a notice");
                Ok(Status::Accept)
            }
        }
    }
}

fn refuse(reply: &mut SmtpReply, refusal: &DialogueRefusal) -> Status {
    let (code, status) = refusal.codes();
    answer(reply, code, status, vec![refusal.to_string()])
}

/// One answer out of the answers of all recipients: the first that asks to try again, or else the first.
fn refuse_all(reply: &mut SmtpReply, replies: &[Reply]) -> Status {
    let Some(decisive) = replies.iter().find(|reply| !reply.is_permanent_failure()).or(replies.first()) else {
        return Status::Tempfail;
    };
    let (code, class) = if decisive.is_permanent_failure() { ("550", "5.") } else { ("451", "4.") };
    let status_and_text = |reply: &Reply| match reply.text.split_once(' ') {
        Some((status, text)) if is_status(status) => (status.to_owned(), text.to_owned()),
        _ => (format!("{class}0.0"), reply.text.clone()),
    };
    let (status, _) = status_and_text(decisive);
    let lines = replies.iter().filter(|reply| reply.is_permanent_failure() == decisive.is_permanent_failure());
    answer(reply, code, &status, lines.take(MOST_REPLY_LINES).map(|reply| status_and_text(reply).1).collect())
}

/// An enhanced status code (RFC 3463).
fn is_status(word: &str) -> bool {
    word.split('.').count() == 3 && word.split('.').all(|number| number.parse::<u16>().is_ok_and(|one| one < 1000))
}

/// `login` is `-` where nobody logs in.
fn untransferable(reply: &mut SmtpReply, queue_id: &str, login: &str, defect: Untransferable) -> Status {
    warn!(queue_id, login, ?defect, "message refused");
    match defect {
        Untransferable::TooLarge(limit) => {
            answer(reply, "552", "5.3.4", vec![format!("il messaggio supera il limite di {limit} byte")])
        }
        Untransferable::CutHeader | Untransferable::LargeHeader => {
            answer(reply, "550", "5.6.0", vec![Defect::LongHeader.phrase()])
        }
    }
}

/// Sets the reply; a text that no reply can hold leaves Postfix's own.
fn answer(reply: &mut SmtpReply, code: &str, status: &str, lines: Vec<String>) -> Status {
    let printable = |c: char| if (' '..='~').contains(&c) { c } else { ' ' };
    let line = |text: String| text.chars().take(LONGEST_REPLY_LINE).map(printable).collect::<String>();
    let lines = lines.into_iter().map(|text| line(text).replace('%', "%%"));
    if let Err(error) = reply.set_error_reply(code, Some(status), lines) {
        error!(%error, "the text of a refusal could not be set");
    }
    if code.starts_with('4') { Status::Tempfail } else { Status::Reject }
}
