//! Signatures per second: the engines in software on one thread, and a token with one session and more, each used by a
//! thread of its own. The token is SoftHSM's; what a device does is another figure, the way to it the same.

use std::error::Error;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Barrier;
use std::time::Instant;

use openssl::rsa::Rsa;
use pec_milter::adapters::key_file::{certificates, read_passphrase};
use pec_milter::adapters::pkcs11::{Place, TokenKey};
use pec_milter::smime::{Engine, SigningKey, software_key};
use pec_testbed::pki::{Pki, Request};
use pec_testbed::token::{LABEL, MODULE, Token};

const SIGNATURES: usize = 1000;
const SESSIONS: [usize; 4] = [1, 2, 4, 8];
const KEY: &str = "bench";
/// Set where the token is made and this program runs a second time: SoftHSM reads the environment it started with.
const FOLDER: &str = "PEC_BENCH_TOKEN";

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<ExitCode, Failure> {
    match std::env::var_os(FOLDER) {
        Some(folder) => measure(folder.into()).map(|()| ExitCode::SUCCESS),
        None => with_token(),
    }
}

fn with_token() -> Result<ExitCode, Failure> {
    let folder = tempfile::tempdir()?;
    let account = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let token = Token::make(&folder.path().join("token"), account)?;
    let pki = Pki::new(folder.path().join("pki"), &["alfa.example"])?;
    let request = Request::provider(KEY, "Alfa PEC S.p.A.", "posta-certificata@alfa.example");
    pki.certify(&request, &token.generate(KEY)?)?;
    let status =
        Command::new(std::env::current_exe()?).env(FOLDER, folder.path()).envs(token.environment()).status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure(folder: PathBuf) -> Result<(), Failure> {
    let pkcs8 = openssl::pkey::PKey::from_rsa(Rsa::generate(2048)?)?.private_key_to_pkcs8()?;
    let fast = per_second(&*software_key(&pkcs8, Engine::AwsLc)?, 1)?;
    let rust = per_second(&*software_key(&pkcs8, Engine::Rsa)?, 1)?;
    println!("aws-lc-rs, one thread:   {fast:6.0}/s  1.00");
    println!("rsa, one thread:         {rust:6.0}/s  {:.2}", rust / fast);
    let (certificate, _) = certificates(&folder.join(format!("pki/{KEY}.pem")))?;
    for sessions in SESSIONS {
        let place = Place { module: MODULE.into(), token: LABEL.into(), key: KEY.into() };
        let pin = read_passphrase(&folder.join("token/pin"))?;
        let key = TokenKey::open(place, pin, sessions, &certificate)?;
        let rate = per_second(&key, sessions)?;
        println!("token, {sessions} session(s):     {rate:6.0}/s  {:.2}", rate / fast);
    }
    Ok(())
}

/// With this many threads, all of which have signed once before it counts.
fn per_second(key: &dyn SigningKey, threads: usize) -> Result<f64, Failure> {
    let start = Barrier::new(threads + 1);
    std::thread::scope(|scope| {
        let work = || -> Result<(), Failure> {
            let first = key.sign(b"once");
            start.wait();
            first?;
            (0..SIGNATURES / threads).try_for_each(|_| key.sign(&[7; 120]).map(drop))?;
            Ok(())
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        start.wait();
        let begin = Instant::now();
        for worker in workers {
            worker.join().map_err(|_| "a signing thread panicked")??;
        }
        Ok((SIGNATURES / threads * threads) as f64 / begin.elapsed().as_secs_f64())
    })
}
