//! Milter words to the model's and back; any error becomes Tempfail, and never Accept.

use std::ffi::{CStr, CString};
use std::sync::Arc;

use bytes::Bytes;
use indymilter::{
    ActionError, Actions, Callbacks, Context, EomContext, Macros, NegotiateContext, ProtoOpts, SetErrorReply,
    SmtpReply, Status,
};
use tracing::{error, info, warn};

use super::answer::Answer;
use super::conversation::{Conversation, Submitter, Untransferable, path};
use super::{Milter, Role, apply};
use crate::access_point::{DialogueRefusal, Session, check_recipient, check_sender};
use crate::crash;
use crate::legal_log::Entry;
use crate::message::header::Header;
use crate::model::{Address, User};
use crate::operations::causes;
use crate::operations::ports::{EventLog, Instruments, LogError, Mailboxes, SendersFault};
use crate::operations::receive::{Beside, Incoming, NotReceived, Reception, receive};
use crate::operations::refusal::{Dialogue, Point};
use crate::operations::report::{Redirection, redirect};
use crate::operations::submit::{NotSubmitted, Outgoing, submit};
use crate::operations::triggers::{Trigger, internal_domain};

/// Why a message cannot be dealt with now.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("Postfix handed over no message: the milter conversation is out of step")]
    NoConversation,
    #[error(transparent)]
    Senders(#[from] SendersFault),
    #[error("the worker thread ended before its work was done")]
    Worker(#[from] tokio::task::JoinError),
    #[error(transparent)]
    NotSubmitted(#[from] NotSubmitted),
    #[error(transparent)]
    NotReceived(#[from] NotReceived),
    #[error("Postfix's own report cannot be taken over whole: {0:?}")]
    Untransferable(Untransferable),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("Postfix did not take an edit: {0}")]
    Edit(#[from] ActionError),
}

pub fn callbacks<L: EventLog, M: Mailboxes, T: Instruments + Clone>(
    milter: Arc<Milter<L, M, T>>,
) -> Callbacks<Conversation> {
    let (at_mail, at_rcpt, at_body, at_eom) = (milter.clone(), milter.clone(), milter.clone(), milter);
    Callbacks::new()
        .on_negotiate(|context, _, offered| Box::pin(std::future::ready(negotiate(context, offered))))
        .on_mail(move |context, arguments| {
            let milter = at_mail.clone();
            Box::pin(async move { milter.mail(context, &arguments).await })
        })
        .on_rcpt(move |context, arguments| {
            let milter = at_rcpt.clone();
            Box::pin(async move { milter.rcpt(context, &arguments).await })
        })
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

/// A macro that has a value.
fn text(macros: &Macros, name: &CStr) -> Option<String> {
    macros.get(name).map(|value| value.to_string_lossy().into_owned()).filter(|value| !value.is_empty())
}

/// Who was identified: by the login where there is one, or else by the client certificate, whose names Postfix tells
/// only where it leads to a CA of `smtpd_tls_CAfile`.
fn user(macros: &Macros) -> Option<User> {
    let certificate = || {
        let (issuer, subject) = (text(macros, c"{cert_issuer}")?, text(macros, c"{cert_subject}")?);
        Some(User::Certificate { issuer, subject })
    };
    text(macros, c"{auth_authen}").map(User::Login).or_else(certificate)
}

impl<L: EventLog, M: Mailboxes, T: Instruments + Clone> Milter<L, M, T> {
    async fn mail(&self, context: &mut Context<Conversation>, arguments: &[CString]) -> Status {
        let sender = arguments.first().map(|argument| path(argument.to_bytes())).unwrap_or_default();
        if self.role != Role::Access {
            context.data = Some(Conversation::new(sender, None));
            return Status::Continue;
        }
        let user = user(&context.macros);
        let login = user.as_ref().map_or("-".to_owned(), User::to_string);
        let is_encrypted = text(&context.macros, c"{tls_version}").is_some();
        match self.submitter(user, is_encrypted, &sender).await {
            Ok(Ok(submitter)) => {
                context.data = Some(Conversation::new(sender, Some(submitter)));
                Status::Continue
            }
            Ok(Err(refusal)) => {
                warn!(login, %sender, %refusal, "submission refused at MAIL");
                let answer = Answer::to_refusal(&refusal);
                let entry = self.dialogue(&context.macros, &sender, &[]).refusal(&answer.to_string());
                self.refuse(&mut context.reply, answer, entry).await
            }
            Err(fault) => {
                let fault = causes(&fault);
                error!(login, %sender, fault, "no submission for now, the client will try again");
                Status::Tempfail
            }
        }
    }

    /// Who submits, where he may use this reverse path. Asked for each message: a session outlives what is known of it.
    async fn submitter(
        &self,
        user: Option<User>,
        is_encrypted: bool,
        reverse_path: &str,
    ) -> Result<Result<Submitter, DialogueRefusal>, Fault> {
        let (current, reverse_path) = (self.current.now(), reverse_path.to_owned());
        // The maps are files that may have changed.
        let checking = tokio::task::spawn_blocking(move || {
            let session = Session { user: user.as_ref(), is_encrypted };
            let manages = |address: &_| current.manages(address);
            let checked = check_sender(session, &reverse_path, manages, |user, address| {
                current.senders.may_send_as(user, address)
            })?;
            let user = user.ok_or(DialogueRefusal::NotAuthenticated);
            Ok::<_, SendersFault>(checked.and_then(|address| Ok(Submitter { user: user?, address })))
        });
        Ok(checking.await??)
    }

    async fn rcpt(&self, context: &mut Context<Conversation>, arguments: &[CString]) -> Status {
        let recipient = arguments.first().map(|argument| path(argument.to_bytes())).unwrap_or_default();
        let (Some(conversation), Some(internal)) = (&mut context.data, internal_domain()) else {
            return Status::Tempfail;
        };
        if self.role == Role::Bounces {
            conversation.recipients.push(recipient);
            return Status::Continue;
        }
        let refusal = match check_recipient(&recipient, &internal) {
            // What is no address for us may be one for Postfix: ordinary mail has odd ones.
            Err(refusal @ DialogueRefusal::InvalidAddress(_)) if self.role == Role::Access => refusal,
            Err(refusal @ DialogueRefusal::InternalRecipient(_)) => refusal,
            _ => {
                conversation.recipients.push(recipient);
                return Status::Continue;
            }
        };
        let login = conversation.submitter.as_ref().map_or("-".to_owned(), |submitter| submitter.user.to_string());
        warn!(login, sender = %conversation.sender, %recipient, %refusal, "recipient refused");
        let answer = Answer::to_refusal(&refusal);
        let dialogue = self.dialogue(&context.macros, &conversation.sender, &conversation.recipients);
        self.refuse(&mut context.reply, answer.clone(), dialogue.refusal_of(&recipient, &answer.to_string())).await
    }

    /// What is known of the dialogue in this moment.
    fn dialogue(&self, macros: &Macros, sender: &str, recipients: &[String]) -> Dialogue {
        let (by, login) = match self.role {
            Role::Access => (Point::Access, user(macros).map(|user| user.to_string())),
            // Whoever shows a certificate on port 25 is no user.
            Role::Incoming | Role::Bounces => (Point::Incoming, None),
        };
        Dialogue {
            by,
            at: self.instruments.now(),
            queue_id: text(macros, c"i"),
            sender: sender.to_owned(),
            recipients: recipients.to_vec(),
            login,
            client: text(macros, c"{client_addr}"),
            provider: None,
            subject: None,
            msgid: None,
        }
    }

    /// Gives an answer once its entry is durable. What cannot be recorded is not refused: the client tries again.
    async fn refuse(&self, reply: &mut SmtpReply, answer: Answer, entry: Entry) -> Status {
        if !answer.is_temporary()
            && let Err(fault) = self.log.record(vec![entry]).await
        {
            let fault = causes(&fault);
            error!(%answer, fault, "a refusal is not recorded and not given, the client will try again");
            return Status::Tempfail;
        }
        crash::point("refusal-recorded");
        give(reply, answer)
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
        let Submitter { user, address: sender } = conversation.submitter.clone().ok_or(Fault::NoConversation)?;
        let login = user.to_string();
        let message = match conversation.take_message() {
            Ok(message) => message,
            Err(defect) => return Ok(self.untransferable(context, &conversation, &login, defect).await),
        };
        // The dialogue may have lasted: who was taken out of a map since MAIL sends nothing more. That it is encrypted is as it was.
        if let Err(refusal) = self.submitter(Some(user), true, &conversation.sender).await? {
            warn!(queue_id, login, %sender, %refusal, "submission refused at the end of the message");
            let answer = Answer::to_refusal(&refusal);
            let dialogue = self.dialogue(&context.macros, &conversation.sender, &conversation.recipients);
            let entry = dialogue.with_header(&message).refusal(&answer.to_string());
            return Ok(self.refuse(&mut context.reply, answer, entry).await);
        }
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
            Err(defect) => return Ok(self.untransferable(context, &conversation, "-", defect).await),
        };
        let Conversation { sender, recipients, .. } = conversation;
        let incoming = Incoming {
            queue_id: queue_id.to_owned(),
            sender: sender.clone(),
            recipients: recipients.clone(),
            message: message.clone(),
        };
        let reception = receive(&self.current, &self.mailboxes, &self.viruses, &self.instruments, incoming).await?;
        let dialogue = self.dialogue(&context.macros, &sender, &recipients);
        let summary = match reception {
            Reception::Pass { trigger, envelope, beside, summary } => {
                self.record_beside(dialogue, &message, &beside, false).await?;
                if let Some(envelope) = envelope {
                    apply::readdress(&context.actions, &recipients, &envelope).await?;
                }
                apply::add_triggers(&context.actions, trigger.as_slice()).await?;
                summary
            }
            Reception::Replace { replacement, beside } => {
                self.record_beside(dialogue, &message, &beside, true).await?;
                apply::replace(&context.actions, &Header::read(&message), &recipients, &replacement).await?;
                replacement.summary
            }
            Reception::Refuse { replies, provider } => {
                warn!(queue_id, %sender, ?recipients, ?replies, "ordinary mail refused");
                let Some(answer) = Answer::to_all(&replies) else { return Ok(Status::Tempfail) };
                let dialogue = Dialogue { provider, ..dialogue.with_header(&message) };
                let entry = dialogue.refusal(&answer.to_string());
                return Ok(self.refuse(&mut context.reply, answer, entry).await);
            }
        };
        info!(queue_id, %sender, %summary, "reception");
        Ok(Status::Accept)
    }

    /// Makes durable what no later event tells of an accepted message, before it is accepted.
    async fn record_beside(
        &self,
        dialogue: Dialogue,
        message: &[u8],
        beside: &Beside,
        in_envelope: bool,
    ) -> Result<(), Fault> {
        let Beside { taken_out, forwarded } = beside;
        if taken_out.is_empty() && forwarded.is_empty() {
            return Ok(());
        }
        let dialogue = dialogue.with_header(message);
        let mut entries: Vec<Entry> =
            taken_out.iter().map(|(recipient, reply)| dialogue.taken_out(recipient, reply)).collect();
        entries.extend(forwarded.iter().map(|forwarded| dialogue.forward(forwarded, in_envelope)));
        self.log.record(entries).await?;
        Ok(())
    }

    /// Refuses a message that cannot be taken over whole; `login` is `-` where nobody logs in.
    async fn untransferable(
        &self,
        context: &mut EomContext<Conversation>,
        conversation: &Conversation,
        login: &str,
        defect: Untransferable,
    ) -> Status {
        let dialogue = self.dialogue(&context.macros, &conversation.sender, &conversation.recipients);
        warn!(queue_id = dialogue.queue_id, login, ?defect, "message refused");
        let answer = Answer::to_untransferable(defect);
        let entry = dialogue.with_header(conversation.head()).refusal(&answer.to_string());
        self.refuse(&mut context.reply, answer, entry).await
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

/// Sets the reply; a text that no reply can hold leaves Postfix's own.
fn give(reply: &mut SmtpReply, answer: Answer) -> Status {
    let is_temporary = answer.is_temporary();
    let lines = answer.lines.into_iter().map(|text| text.replace('%', "%%"));
    if let Err(error) = reply.set_error_reply(answer.code, Some(&answer.status), lines) {
        error!(%error, "the text of a refusal could not be set");
    }
    if is_temporary { Status::Tempfail } else { Status::Reject }
}
