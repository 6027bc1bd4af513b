//! The page for an auditor in README.md, followed to the letter.

use super::*;

/// The commands under a heading, block by block.
fn blocks(heading: &str) -> Result<Vec<String>> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"))?;
    let (_, section) = readme.split_once(&format!("\n{heading}\n")).context("no such section")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let section = section.split("\n### ").next().unwrap_or_default();
    let blocks = section.split("```sh\n").skip(1).filter_map(|rest| rest.split_once("```"));
    Ok(blocks.map(|(block, _)| block.to_owned()).collect())
}

/// What the shell says to a block in a folder, and whether it ended well.
fn follow(block: &str, folder: &Path) -> Result<(bool, String)> {
    let output = Command::new("sh").args(["-eu", "-c", block]).current_dir(folder).output()?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Ok((output.status.success(), said))
}

/// What an auditor gets: the folder of the seals, with the CA files in it.
fn exported() -> Result<Evidence> {
    let evidence = Evidence::new()?;
    for (from, to) in [("root.pem", "ca.pem"), ("tsa-ca.pem", "tsa-ca.pem")] {
        fs::copy(evidence.pki(from), evidence.seals().join(to))?;
    }
    Ok(evidence)
}

#[test]
fn trace_verify_by_the_page_for_an_auditor() -> Result<()> {
    let blocks = blocks("### For an auditor")?;
    ensure!(blocks.len() == 5, "signature, stamp, digest, chain of rows, chain of seals: {}", blocks.len());
    let evidence = exported()?;
    for block in &blocks {
        let (is_good, said) = follow(block, &evidence.seals())?;
        ensure!(is_good && !said.is_empty(), "{block}\nsays:\n{said}");
    }
    // Only what the page promises.
    for word in blocks.iter().flat_map(|block| block.lines()).filter_map(|line| line.split_whitespace().next()) {
        let shell = ["for", "do", "done", "if", "then", "fi", "while", "test", "echo", "printf", "exit"];
        let tools = ["openssl", "sha256sum", "grep", "cut"];
        let is_assignment = word.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_lowercase()));
        ensure!(shell.contains(&word) || tools.contains(&word) || is_assignment || word.starts_with('-'), "{word}");
    }
    Ok(())
}

/// Thirty years later every certificate has expired; what it signed while it was valid holds as before.
#[test]
fn trace_verify_by_the_page_after_the_certificates_have_expired() -> Result<()> {
    let evidence = exported()?;
    let then = pec_testbed::faketime::beginning_at("2056-01-01 12:00:00")?;
    for block in blocks("### For an auditor")?.iter().take(2) {
        let run = |block: &str| -> Result<(bool, String)> {
            let mut command = Command::new("sh");
            command.args(["-eu", "-c", block]).current_dir(evidence.seals()).envs(then.clone());
            let output = command.output()?;
            Ok((
                output.status.success(),
                String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
            ))
        };
        let (is_good, said) = run(block)?;
        ensure!(!is_good && said.contains("certificate has expired"), "{said}");
        let (is_good, said) = run(&block.replacen(" -verify ", " -verify -no_check_time ", 1))?;
        ensure!(is_good, "{said}");
        for told in
            ["notAfter=", "Not After", "Time stamp:"].iter().filter(|told| block.contains("ts") == told.contains(' '))
        {
            ensure!(said.contains(told), "{told}: {said}");
        }
    }
    Ok(())
}

#[test]
fn trace_verify_by_the_page_finds_a_flipped_byte() -> Result<()> {
    let blocks = blocks("### For an auditor")?;
    for (ending, part) in [("rows", 0.3), ("rows", 0.9), ("seal", 0.1), ("seal", 0.6), ("p7s", 0.95), ("tsr", 0.97)] {
        let evidence = exported()?;
        for number in [1, 2] {
            let file = evidence.seals().join(format!("{}.{ending}", evidence.name(number)?));
            let octets = fs::read(&file)?;
            let mut altered = octets.clone();
            altered[(octets.len() as f64 * part) as usize] ^= 1;
            fs::write(&file, &altered)?;
            let failed = blocks.iter().map(|block| follow(block, &evidence.seals())).collect::<Result<Vec<_>>>()?;
            ensure!(failed.iter().any(|(is_good, _)| !is_good), "{} at {part}: {failed:#?}", file.display());
            fs::write(&file, &octets)?;
        }
    }
    // A day taken out, with all its files.
    let evidence = exported()?;
    for ending in ["rows", "seal", "p7s", "tsr"] {
        fs::remove_file(evidence.seals().join(format!("{}.{ending}", evidence.name(1)?)))?;
    }
    let last = blocks.last().context("no blocks")?;
    let (is_good, said) = follow(last, &evidence.seals())?;
    ensure!(!is_good, "{said}");
    Ok(())
}
