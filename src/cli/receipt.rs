//! `receipt reproduce`: the receipts of a transaction made again from the log, for a holder who lost them (§2.3).

use std::fs::DirBuilder;
use std::io::{self, Write, stdout};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::{Uid, User};

use super::load::load;
use super::{Failure, seals, servers};
use crate::adapters::durable;
use crate::adapters::instruments::SystemInstruments;
use crate::adapters::originals::Originals;
use crate::adapters::relay::{DovecotLmtp, PostfixInjection};
use crate::adapters::sqlite::SqliteLog;
use crate::config::Config;
use crate::legal_log::EventKind;
use crate::model::{Address, PecMsgid};
use crate::operations::causes;
use crate::operations::ports::{Instruments, OriginalStore};
use crate::operations::reproduce::{Issued, NotReproduced, Purpose, Reproducer, TOLD, Wanted};

/// What is to be made again, and what for.
pub struct Request {
    pub id: String,
    pub kind: Option<EventKind>,
    pub recipient: Option<String>,
    pub out: Option<PathBuf>,
    pub send: bool,
    pub without_original: bool,
}

type SystemReproducer = Reproducer<SqliteLog, DovecotLmtp, PostfixInjection, SystemInstruments>;

/// The kind that a word means, if a receipt or notice tells it.
pub fn told_kind(word: &str) -> Result<EventKind, String> {
    let kind = EventKind::from_name(word).filter(|kind| TOLD.contains(kind));
    kind.ok_or_else(|| format!("expected {}", TOLD.map(EventKind::name).join(", ")))
}

/// Makes them; no if the log knows none of this provider's, or one of them cannot be made.
pub fn reproduce(config: &Path, request: Request) -> Result<bool, Failure> {
    let id: PecMsgid = request.id.trim().trim_start_matches('<').trim_end_matches('>').parse()?;
    let recipient: Option<Address> = request.recipient.as_deref().map(str::parse).transpose()?;
    let wanted = Wanted { kind: request.kind, recipient };
    let folder = match (&request.out, request.send) {
        (None, true) => None,
        (out, _) => Some(out.clone().unwrap_or_else(|| PathBuf::from("."))),
    };
    let mut config = Config::read(config)?;
    if request.without_original {
        // Nor is it an obstacle that the key is gone.
        config.log.originals.key_file = None;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let reproducer = reproducer(&config).await?;
        let answer = all(&reproducer, &id, &wanted, folder.as_deref(), request.send).await;
        reproducer.log.close().await?;
        answer
    })
}

async fn reproducer(config: &Config) -> Result<SystemReproducer, Failure> {
    let loaded = load(config, SystemInstruments.now())?;
    // Opened for writing makes one where there is none, which would be an answer about another log.
    let reader = SqliteLog::open_read_only(&config.log.database)?;
    let seals = seals::signed(config, &reader).await?;
    // Also where none are kept any more.
    let store = |key| Arc::new(Originals::at(&config.log.originals.store, key)) as Arc<dyn OriginalStore>;
    let uid = Uid::current();
    let by = User::from_uid(uid)?.map_or_else(|| uid.to_string(), |user| user.name);
    Ok(Reproducer {
        current: Arc::new(loaded.current),
        log: SqliteLog::open(&config.log.database)?,
        seals,
        originals: loaded.originals.map(store),
        mailboxes: servers::mailboxes(config),
        injection: servers::injection(config),
        instruments: SystemInstruments,
        by,
    })
}

async fn all(
    reproducer: &SystemReproducer,
    id: &PecMsgid,
    wanted: &Wanted,
    folder: Option<&Path>,
    is_sent: bool,
) -> Result<bool, Failure> {
    let found = reproducer.find(id, wanted).await?;
    if found.is_empty() {
        writeln!(stdout(), "this provider issued no such receipt about {id}")?;
        return Ok(false);
    }
    folder.map(make_folder).transpose()?;
    let mut is_whole = true;
    for issued in found {
        is_whole &= match issued {
            Ok(issued) => one(reproducer, issued, folder, is_sent).await?,
            Err(reason) => {
                writeln!(stdout(), "not made again: {}", causes(&reason))?;
                false
            }
        };
    }
    Ok(is_whole)
}

/// Makes one; no if it would carry an original that is there and cannot be read, which holds up no other.
async fn one(
    reproducer: &SystemReproducer,
    issued: Issued,
    folder: Option<&Path>,
    is_sent: bool,
) -> Result<bool, Failure> {
    let (to, at, own_id) =
        (issued.notification.to.clone(), issued.notification.data.at, issued.notification.id.clone());
    let (kind, about) = (issued.kind.name(), issued.about.join(" "));
    let path = folder.map(|folder| folder.join(format!("{:06}-{kind}.eml", issued.sequence)));
    if let Some(path) = path.as_ref().filter(|path| path.exists()) {
        return Err(format!("{} is there already: name another folder", path.display()).into());
    }
    let made = match reproducer.make(issued, Purpose { is_sent, is_written: path.is_some() }).await {
        Err(NotReproduced::Original(fault)) => {
            let remedy = "mend it, or make it with --without-original";
            writeln!(stdout(), "not made again: {kind} {about} {own_id}: {}; {remedy}", causes(&fault))?;
            return Ok(false);
        }
        made => made?,
    };
    let lack = if made.lacks_original { ", WITHOUT THE ORIGINAL" } else { "" };
    let what = format!("{kind} {about} {own_id} of {} {} {}{lack}", at.day(), at.time(), at.zone());
    if let Some(path) = &path {
        let message = made.signed.clone().into_pieces();
        let written = durable::write_new(path, |file| message.iter().try_for_each(|piece| file.write_all(piece)));
        written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        writeln!(stdout(), "{}: {what}", path.display())?;
    }
    if is_sent {
        let reply = reproducer.send(&to, made).await;
        if !reply.is_positive() {
            return Err(format!("not sent to {to}: {reply}: {what}").into());
        }
        writeln!(stdout(), "sent to {to}: {what}")?;
    }
    Ok(true)
}

fn make_folder(folder: &Path) -> Result<(), Failure> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(format!("cannot make {}: {error}", folder.display()).into())
        }
        _ => Ok(()),
    }
}
