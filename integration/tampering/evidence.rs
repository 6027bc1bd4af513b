//! A log of real transactions with its seals, copied for each test, and what is done to it.

use std::fmt;

use pec_milter::adapters::sqlite::SqliteLog;
use pec_milter::legal_log::seal::{Seal, exported};
use pec_milter::legal_log::{Entry, Link, purge};
use pec_milter::model::TemporalReference;
use pec_testbed::pki::Pki;
use sha2::{Digest, Sha256};

use super::*;

/// What a command said, and its exit code.
pub struct Said {
    pub code: i32,
    pub text: String,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit {}:\n{}", self.code, self.text)
    }
}

/// The files of alfa in a folder of their own.
pub struct Evidence {
    folder: TempDir,
}

/// The files that all tests copy.
fn original() -> &'static Path {
    static ORIGINAL: OnceLock<PathBuf> = OnceLock::new();
    ORIGINAL.get_or_init(|| make().unwrap_or_else(|error| panic!("{error:#}")))
}

/// Two sealed letters and one behind them, in a folder that the next run makes anew.
fn make() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tampering");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let testbed = two_providers().start()?;
    let alfa = testbed.host("alfa")?.daemon()?;
    let tsa = testbed.tsa(false)?;
    tsa.start()?;
    alfa.reconfigure("[log]\n", &format!("[log]\n{}", tsa.settings()))?;
    for name in ["prima", "seconda"] {
        let letter = Letter::new(name);
        letter.send(&testbed)?;
        letter.conclude(&testbed)?.check_single()?;
        alfa.stop()?;
        let (is_sealed, said) = alfa.command(&["log", "seal"])?;
        ensure!(is_sealed, "{said}");
        // The command ran as root, the daemon does not.
        run(Command::new("chown").args(["-R", "nobody:postfix"]).arg(alfa.state_folder()))?;
        alfa.start()?;
    }
    let letter = Letter::new("terza");
    letter.send(&testbed)?;
    letter.conclude(&testbed)?;
    // Beside the daemon.
    let (is_whole, said) = alfa.command(&["log", "verify"])?;
    ensure!(is_whole && said.contains("2 seals of Alfa PEC S.p.A., 2 stamped"), "{said}");
    alfa.stop()?;
    for part in ["pki", "alfa/pec", "alfa/crl", "providers.ldif"] {
        let to = folder.join(part);
        fs::create_dir_all(to.parent().context("no parent")?)?;
        run(Command::new("cp").arg("-a").arg(testbed.folder().join(part)).arg(&to))?;
    }
    let configuration = fs::read_to_string(&alfa.configuration)?;
    let here = configuration.replace(path(testbed.folder())?, path(&folder)?);
    fs::write(folder.join("pec-milter.toml"), here)?;
    Ok(folder)
}

impl Evidence {
    pub fn new() -> Result<Self> {
        // A short name: the configuration has unix sockets in it.
        let folder = tempfile::tempdir()?;
        run(Command::new("cp").arg("-a").arg(original().join(".")).arg(folder.path()))?;
        let configuration = folder.path().join("pec-milter.toml");
        let text = fs::read_to_string(&configuration)?;
        fs::write(&configuration, text.replace(path(original())?, path(folder.path())?))?;
        Ok(Evidence { folder })
    }

    pub fn database(&self) -> PathBuf {
        self.folder.path().join("alfa/pec/log.sqlite")
    }

    pub fn seals(&self) -> PathBuf {
        self.folder.path().join("alfa/pec/seals")
    }

    pub fn pki(&self, file: &str) -> PathBuf {
        self.folder.path().join("pki").join(file)
    }

    pub fn run(&self, arguments: &[&str]) -> Result<Said> {
        let output = Command::new(env!("CARGO_BIN_EXE_pec-milter"))
            .args(arguments)
            .arg("--config")
            .arg(self.folder.path().join("pec-milter.toml"))
            .output()?;
        let code = output.status.code().context("it was killed")?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        Ok(Said { code, text })
    }

    pub fn verify(&self, further: &[&str]) -> Result<Said> {
        self.run(&[&["log", "verify"], further].concat())
    }

    pub fn verify_exported(&self, further: &[&str]) -> Result<Said> {
        let (seals, ca) = (self.seals(), self.pki("root.pem"));
        self.run(&[&["log", "verify", "--exported", path(&seals)?, "--ca", path(&ca)?], further].concat())
    }

    /// The log does not verify, and this violation is told.
    pub fn found(&self, expected: &str) -> Result<()> {
        let said = self.verify(&[])?;
        let is_told = said.text.lines().any(|line| line.starts_with("VIOLATION ") && line.contains(expected));
        ensure!(said.code == 1 && is_told, "expected {expected:?}: {said}");
        Ok(())
    }

    /// What somebody does who owns the file and knows SQLite.
    pub fn tamper(&self, sql: &str) -> Result<()> {
        self.raw(&format!(
            "DROP TRIGGER event_refuses_update; DROP TRIGGER event_refuses_delete; DROP TRIGGER event_refuses_replace; {sql}"
        ))
    }

    pub fn tamper_again(&self, sql: &str) -> Result<()> {
        self.raw(sql)
    }

    pub fn raw(&self, sql: &str) -> Result<()> {
        self.connection()?.execute_batch(sql).map_err(Into::into)
    }

    fn connection(&self) -> Result<Connection> {
        Ok(Connection::open(self.database())?)
    }

    /// The number of the last row.
    pub fn last(&self) -> Result<i64> {
        Ok(self.connection()?.query_row("SELECT max(sequence) FROM event", [], |row| row.get(0))?)
    }

    /// The hashes of all rows.
    pub fn hashes(&self) -> Result<Vec<[u8; 32]>> {
        let connection = self.connection()?;
        let mut statement = connection.prepare("SELECT hash FROM event ORDER BY sequence")?;
        let hashes = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        Ok(hashes)
    }

    /// What the files of a seal are called.
    pub fn name(&self, number: u64) -> Result<String> {
        let start = format!("{number:06}-");
        for entry in fs::read_dir(self.seals())? {
            let file = entry?.file_name().to_string_lossy().into_owned();
            if let Some((name, _)) = file.split_once('.').filter(|(name, _)| name.starts_with(&start)) {
                return Ok(name.to_owned());
            }
        }
        anyhow::bail!("no seal {number}")
    }

    pub fn seal(&self, number: u64) -> Result<Seal> {
        let file = self.seals().join(format!("{}.seal", self.name(number)?));
        Ok(Seal::from_text(&fs::read_to_string(file)?)?)
    }

    pub fn first_of_seal(&self, number: u64) -> Result<i64> {
        Ok(self.seal(number)?.first())
    }

    /// Gives the rows from this one on, and the tail, hashes that fit.
    pub fn rechain(&self, from: i64) -> Result<()> {
        let last = self.rechain_rows_only(from)?;
        let update = "UPDATE tail SET sequence = ?1, hash = ?2";
        self.connection()?.execute(update, params![last.sequence, last.hash])?;
        Ok(())
    }

    pub fn rechain_rows_only(&self, from: i64) -> Result<Link> {
        let connection = self.connection()?;
        let mut last = Link::BEFORE_FIRST;
        for (sequence, entry) in self.entries()? {
            if sequence >= from {
                last = last.next(&entry);
                let update = "UPDATE event SET hash = ?2 WHERE sequence = ?1";
                connection.execute(update, params![sequence, last.hash])?;
            } else {
                let hash = "SELECT hash FROM event WHERE sequence = ?1";
                last = Link { sequence, hash: connection.query_row(hash, [sequence], |row| row.get(0))? };
            }
        }
        Ok(last)
    }

    /// All entries, whatever their hashes.
    pub fn entries(&self) -> Result<Vec<(i64, Entry)>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let reader = SqliteLog::open_read_only(&self.database())?;
        let [start, end] = [i64::MIN, i64::MAX].map(TemporalReference::from_unix);
        let mut entries = runtime.block_on(reader.of_period(start..end, u32::MAX))?;
        entries.sort_by_key(|one| one.sequence);
        Ok(entries.into_iter().map(|one| (one.sequence, one.entry)).collect())
    }

    /// Adds a purge of a seal's rows that names this number, and removes them; returns its row.
    pub fn purge_as(&self, number: u64, seal: &Seal) -> Result<i64> {
        let last = Link { sequence: self.last()?, hash: *self.hashes()?.last().context("no rows")? };
        let (_, newest) = self.entries()?.pop().context("no rows")?;
        let purge = purge::entry(&Seal { number, ..seal.clone() }, &[], newest.at);
        let next = last.next(&purge);
        let insert = "INSERT INTO event (sequence, at, kind, details, slot, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let slot = purge.slot.as_ref().map(|slot| slot.as_str());
        let values = params![next.sequence, purge.at.unix(), purge.kind.name(), purge.details, slot, next.hash];
        let connection = self.connection()?;
        connection.execute(insert, values)?;
        let delete = "DELETE FROM event WHERE sequence BETWEEN ?1 AND ?2";
        let removed = connection.execute(delete, params![seal.first(), seal.last.sequence])?;
        ensure!(i64::try_from(removed)? == seal.last.sequence - seal.before.sequence, "{removed} rows removed");
        Ok(next.sequence)
    }

    /// Makes rows and seal of a number anew from the database as it is now; the signature stays.
    pub fn forge(&self, number: u64) -> Result<String> {
        let provider = self.seal(number)?.provider;
        self.forge_in_the_name_of(number, &provider)
    }

    pub fn forge_in_the_name_of(&self, number: u64, provider: &str) -> Result<String> {
        let (seal, name) = (self.seal(number)?, self.name(number)?);
        let (mut last, mut export) = (seal.before, String::new());
        for (_, entry) in self.entries()?.into_iter().filter(|(sequence, _)| seal.holds(*sequence)) {
            last = last.next(&entry);
            export.push_str(&exported(&last, &entry));
        }
        let seal = Seal { last, rows: Sha256::digest(&export).into(), provider: provider.to_owned(), ..seal };
        fs::write(self.seals().join(format!("{name}.rows")), export)?;
        fs::write(self.seals().join(format!("{name}.seal")), seal.to_text())?;
        Ok(name)
    }

    /// Signs a seal with the key of another provider, as `openssl cms` does.
    pub fn sign_as_beta(&self, name: &str) -> Result<()> {
        let file = |ending: &str| self.seals().join(format!("{name}.{ending}"));
        let signature = Pki::sign_detached(&self.folder.path().join("pki"), "beta-provider", &file("seal"))?;
        Ok(fs::write(file("p7s"), signature)?)
    }
}

pub fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
