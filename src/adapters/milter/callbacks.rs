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
use crate::access_point::{DialogueRefusal, Login, Submission, check_recipient, check_sender};
use crate::crash;
use crate::incoming_point::Arrival;
use crate::message::defect::Defect;
use crate::message::header::Header;
use crate::model::Address;
use crate::operations::ports::Instruments;
use crate::operations::receive::{Reception, receive};
use crate::operations::submit::{NotSubmitted, submit};
use crate::operations::triggers::internal_domain;
use crate::smime::SigningError;

/// indymilter takes at most 32 lines in a reply; Postfix logs the first.
const MOST_REPLY_LINES: usize = 16;

/// Why a message cannot be dealt with now.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("Postfix handed over no message: the milter conversation is out of step")]
    NoConversation,
    #[error("the worker thread ended before its work was done")]
    Worker(#[from] tokio::task::JoinError),
    #[error("the message could not be signed: {0}")]
    Signing(#[from] SigningError),
    #[error("Postfix did not take an edit: {0}")]
    Edit(#[from] ActionError),
}

pub fn callbacks<T: Instruments + Clone>(milter: Arc<Milter<T>>) -> Callbacks<Conversation> {
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
    context.requested_actions |=
        Actions::ADD_HEADER | Actions::CHANGE_HEADER | Actions::REPLACE_BODY | Actions::ADD_RCPT;
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

impl<T: Instruments + Clone> Milter<T> {
    fn mail(&self, context: &mut Context<Conversation>, arguments: &[CString]) -> Status {
        let sender = arguments.first().map(|argument| path(argument.to_bytes())).unwrap_or_default();
        if self.role == Role::Incoming {
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
        };
        crash::point("eom-after");
        result.unwrap_or_else(|fault| {
            error!(queue_id, %fault, "message not accepted for now, the client will try again");
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
        let (current, instruments, original) = (self.current.now(), self.instruments.clone(), message.clone());
        let (author, count) = (sender.clone(), recipients.len());
        let submitted = tokio::task::spawn_blocking(move || {
            let submission = Submission { sender: &sender, recipients: &recipients, message: &original };
            submit(&current, &submission, instruments.chance(), instruments.now())
        });
        match submitted.await? {
            Ok(replacement) => {
                apply::replace(&context.actions, &Header::read(&message), &replacement).await?;
                info!(queue_id, login, sender = %author, summary = %replacement.summary, "submission");
                Ok(Status::Accept)
            }
            Err(NotSubmitted::Refused(defects)) => {
                warn!(queue_id, login, sender = %author, recipients = count, ?defects, "submission refused by the formal checks");
                Ok(refuse_defects(&mut context.reply, &defects))
            }
            Err(NotSubmitted::Signing(error)) => Err(error.into()),
        }
    }

    async fn arrival(&self, context: &mut EomContext<Conversation>, queue_id: &str) -> Result<Status, Fault> {
        let mut conversation = context.data.take().ok_or(Fault::NoConversation)?;
        let message = match conversation.take_message() {
            Ok(message) => message,
            Err(defect) => return Ok(untransferable(&mut context.reply, queue_id, "-", defect)),
        };
        let (current, instruments, received) = (self.current.now(), self.instruments.clone(), message.clone());
        let sender = conversation.sender.clone();
        let reception = tokio::task::spawn_blocking(move || {
            let Conversation { sender, recipients, .. } = &conversation;
            let arrival = Arrival { sender, recipients, message: &received };
            receive(&current, &arrival, instruments.chance(), instruments.now())
        });
        let summary = match reception.await?? {
            Reception::Pass { trigger, summary } => {
                apply::add_triggers(&context.actions, trigger.as_slice()).await?;
                summary
            }
            Reception::Replace(replacement) => {
                apply::replace(&context.actions, &Header::read(&message), &replacement).await?;
                replacement.summary
            }
        };
        info!(queue_id, %sender, %summary, "reception");
        Ok(Status::Accept)
    }
}

fn refuse(reply: &mut SmtpReply, refusal: &DialogueRefusal) -> Status {
    let (code, status) = refusal.codes();
    answer(reply, code, status, vec![refusal.to_string()])
}

fn refuse_defects(reply: &mut SmtpReply, defects: &[Defect]) -> Status {
    let mut lines = vec!["messaggio non accettato:".to_owned()];
    lines.extend(defects.iter().take(MOST_REPLY_LINES).map(Defect::phrase));
    answer(reply, "550", "5.6.0", lines)
}

/// `login` is `-` where nobody logs in.
fn untransferable(reply: &mut SmtpReply, queue_id: &str, login: &str, defect: Untransferable) -> Status {
    warn!(queue_id, login, ?defect, "message refused");
    match defect {
        Untransferable::TooLarge(limit) => {
            answer(reply, "552", "5.3.4", vec![format!("il messaggio supera il limite di {limit} byte")])
        }
        Untransferable::CutHeader => answer(reply, "550", "5.6.0", vec![Defect::LongHeader.phrase()]),
    }
}

/// Sets the reply; a text that no reply can hold leaves Postfix's own.
fn answer(reply: &mut SmtpReply, code: &str, status: &str, lines: Vec<String>) -> Status {
    let lines = lines.into_iter().map(|line| line.replace('%', "%%"));
    if let Err(error) = reply.set_error_reply(code, Some(status), lines) {
        error!(%error, "the text of a refusal could not be set");
    }
    Status::Reject
}
