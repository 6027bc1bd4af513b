//! A text file of the administrator's that counts as it is now: each use looks whether it changed, and reads it again
//! only then.
//!
//! What a file that became unreadable or wrong means is the reader's choice: [`TableFile::read`] is a fault for a table
//! that gives rights, since whoever was taken out of it must stop at once; as a [`Table`] the last good content goes on,
//! for what gives none. Files are read here: both are for blocking threads.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::error;

use crate::adapters::instruments::SystemInstruments;
use crate::operations::causes;
use crate::operations::ports::{Instruments, Table};

/// A file system's clock is coarse: a file that changed less than this many seconds ago may change again without a sign.
const UNSETTLED_SECONDS: i64 = 2;

/// Text to table, or everything that is wrong with it.
type Parse<T> = Box<dyn Fn(&str) -> Result<T, Vec<String>> + Send + Sync>;

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableFault {
    #[error("cannot read {}", file.display())]
    Unreadable {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{}: not UTF-8 text", .0.display())]
    NotText(PathBuf),
    /// A line for each fault.
    #[error("{}", lines(file, faults))]
    Invalid { file: PathBuf, faults: Vec<String> },
}

/// A table and the file that it is read from.
pub struct TableFile<T> {
    file: PathBuf,
    parse: Parse<T>,
    held: Mutex<Held<T>>,
}

struct Held<T> {
    /// The last good content.
    content: Arc<T>,
    /// The file that holds it; none where the next use must read it again.
    stamp: Option<Stamp>,
    /// What was said of the file since.
    said: Option<String>,
}

/// What is different about a file after any change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
    modified: (i64, i64),
}

impl<T> TableFile<T> {
    /// Reads it for the first time.
    pub fn open(
        file: &Path,
        parse: impl Fn(&str) -> Result<T, Vec<String>> + Send + Sync + 'static,
    ) -> Result<Self, TableFault> {
        let (content, stamp) = load(file, &parse)?;
        let held = Held { content: Arc::new(content), stamp: stamp.is_settled().then_some(stamp), said: None };
        Ok(TableFile { file: file.to_owned(), parse: Box::new(parse), held: Mutex::new(held) })
    }

    /// The table as the file is now.
    pub fn read(&self) -> Result<Arc<T>, TableFault> {
        self.refresh(&mut self.held())
    }

    fn refresh(&self, held: &mut Held<T>) -> Result<Arc<T>, TableFault> {
        let now = fs::metadata(&self.file).map(|metadata| Stamp::of(&metadata)).ok();
        if now.is_none() || now != held.stamp {
            held.stamp = None;
            let (content, stamp) = load(&self.file, &self.parse)?;
            held.content = Arc::new(content);
            held.stamp = stamp.is_settled().then_some(stamp);
        }
        Ok(held.content.clone())
    }

    fn held(&self) -> MutexGuard<'_, Held<T>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + Sync + 'static> Table<T> for TableFile<T> {
    fn now(&self) -> Arc<T> {
        let mut held = self.held();
        match self.refresh(&mut held) {
            Ok(content) => {
                held.said = None;
                content
            }
            Err(fault) => {
                let fault = causes(&fault);
                if held.said.as_ref() != Some(&fault) {
                    error!(fault, "the table cannot be used, what it said before goes on until it is mended");
                    held.said = Some(fault);
                }
                held.content.clone()
            }
        }
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    /// Whether a later change must show.
    fn is_settled(&self) -> bool {
        SystemInstruments.now().unix() - self.changed.0 >= UNSETTLED_SECONDS
    }
}

fn load<T>(file: &Path, parse: impl Fn(&str) -> Result<T, Vec<String>>) -> Result<(T, Stamp), TableFault> {
    let unreadable = |source| TableFault::Unreadable { file: file.to_owned(), source };
    let mut opened = File::open(file).map_err(unreadable)?;
    // Before the content: what is written meanwhile shows at the next use.
    let stamp = Stamp::of(&opened.metadata().map_err(unreadable)?);
    let mut octets = Vec::new();
    opened.read_to_end(&mut octets).map_err(unreadable)?;
    let text = String::from_utf8(octets).map_err(|_| TableFault::NotText(file.to_owned()))?;
    let table = parse(&text).map_err(|faults| TableFault::Invalid { file: file.to_owned(), faults })?;
    Ok((table, stamp))
}

fn lines(file: &Path, faults: &[String]) -> String {
    faults.iter().map(|fault| format!("{}: {fault}", file.display())).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A table of one number.
    fn table(file: &Path) -> Result<TableFile<u32>, TableFault> {
        TableFile::open(file, |text| text.trim().parse().map_err(|_| vec!["line 1: not a number".to_owned()]))
    }

    #[test]
    fn every_change_counts_at_the_next_use() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("table");
        fs::write(&file, "0").unwrap();
        let table = table(&file).unwrap();
        // As fast as can be, and always of one size.
        for number in 0..10 {
            fs::write(&file, number.to_string()).unwrap();
            assert_eq!(*table.read().unwrap(), number);
        }
        let other = folder.path().join("other");
        fs::write(&other, "7").unwrap();
        fs::rename(&other, &file).unwrap();
        assert_eq!(*table.read().unwrap(), 7);
    }

    #[test]
    fn a_file_that_rests_is_read_once() {
        // Of the package, so older than a moment.
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("LICENSE");
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let table = TableFile::open(&file, move |_| Ok(counted.fetch_add(1, Ordering::Relaxed))).unwrap();
        (0..3).for_each(|_| _ = table.read().unwrap());
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_fault_is_told_or_bridged_and_over_when_the_file_is_mended() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("table");
        assert!(matches!(table(&file).err().unwrap(), TableFault::Unreadable { .. }));
        fs::write(&file, "3").unwrap();
        let table = table(&file).unwrap();
        assert_eq!(*table.now(), 3);
        fs::write(&file, "x").unwrap();
        let fault = table.read().unwrap_err().to_string();
        assert_eq!(fault, format!("{}: line 1: not a number", file.display()));
        assert_eq!(*table.now(), 3);
        fs::write(&file, b"\xFF").unwrap();
        assert!(matches!(table.read().unwrap_err(), TableFault::NotText(_)));
        fs::remove_file(&file).unwrap();
        assert!(matches!(table.read().unwrap_err(), TableFault::Unreadable { .. }));
        assert_eq!(*table.now(), 3);
        fs::write(&file, "4").unwrap();
        assert_eq!((*table.read().unwrap(), *table.now()), (4, 4));
    }
}
