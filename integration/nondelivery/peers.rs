//! Servers that are no good: one that refuses, and a DNS without names.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::Result;
use pec_testbed::Host;

/// Where a server that is no good refuses.
#[derive(Clone, Copy, PartialEq)]
pub enum Stage {
    Connect,
    Ehlo,
    Mail,
    Rcpt,
    Data,
    End,
}

/// A mail server that refuses every message at one stage, with a reply that can change.
pub struct Peer {
    pub port: u16,
    reply: Arc<Mutex<&'static str>>,
}

impl Peer {
    pub fn refusing(stage: Stage, reply: &'static str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let peer = Peer { port: listener.local_addr().unwrap().port(), reply: Arc::new(Mutex::new(reply)) };
        let reply = peer.reply.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let reply = *reply.lock().unwrap();
                // A client that hangs up has read what it needs.
                thread::spawn(move || refuse(stream, stage, reply));
            }
        });
        peer
    }

    pub fn now_says(&self, reply: &'static str) {
        *self.reply.lock().unwrap() = reply;
    }
}

fn refuse(mut stream: TcpStream, stage: Stage, reply: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let mut say = |at, usual: &str| {
        let text = if at == stage { reply } else { usual };
        write!(stream, "{text}\r\n")
    };
    say(Stage::Connect, "220 peer.example ESMTP")?;
    while let Some(line) = lines.next().transpose()? {
        match line.get(..4).unwrap_or_default().to_ascii_uppercase().as_str() {
            "EHLO" | "HELO" => say(Stage::Ehlo, "250 peer.example")?,
            "RCPT" => say(Stage::Rcpt, "250 ok")?,
            "DATA" => {
                say(Stage::Data, "354 go")?;
                if stage != Stage::Data {
                    while lines.next().transpose()?.is_some_and(|line| line != ".") {}
                    say(Stage::End, "250 ok")?;
                }
            }
            "QUIT" => return write!(stream, "221 bye\r\n"),
            _ => say(Stage::Mail, "250 ok")?,
        }
    }
    Ok(())
}

/// The only name server this host knows answers every question with "no such name" (RFC 1035 §4.1.1).
pub fn dns_without_names(host: &Host) -> Result<()> {
    let socket = UdpSocket::bind((host.site.address, 53))?;
    let etc = host.site.spool().join("etc");
    fs::create_dir_all(&etc)?;
    fs::write(etc.join("resolv.conf"), format!("nameserver {}\n", host.site.address))?;
    thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut packet) {
            // A response, recursion available, error 3; the rest is the question.
            if let Some(flags) = packet.get_mut(2..4) {
                flags.copy_from_slice(&[0x81, 0x83]);
            }
            // Without extensions in it, nothing follows the question.
            packet[10..12].fill(0);
            drop(socket.send_to(&packet[..length], client));
        }
    });
    Ok(())
}
