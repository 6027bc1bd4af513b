//! The wire under the SMTP, IMAP and POP3 clients: lines and counted bytes over TCP, with or without TLS.
//!
//! A server that says nothing for a minute is a fault. Certificates are verified: a client here trusts one CA file.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use anyhow::{Context, Result, bail};
use openssl::ssl::{SslConnector, SslFiletype, SslMethod, SslStream};

use crate::pki::Identity;
use crate::wait::PATIENCE;

/// A connection to a mail server.
pub struct Wire {
    stream: Stream,
    received: Vec<u8>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<SslStream<TcpStream>>),
    /// Only while TLS is being negotiated; a failed negotiation leaves it behind.
    Gone,
}

impl Wire {
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Wire { stream: Stream::Plain(stream), received: Vec::new() })
    }

    /// Goes on in TLS with the server of this name, and shows it a certificate if there is one.
    pub fn start_tls(&mut self, hostname: &str, ca: &Path, identity: Option<&Identity>) -> Result<()> {
        let mut connector = SslConnector::builder(SslMethod::tls())?;
        connector.set_ca_file(ca).with_context(|| format!("cannot load {}", ca.display()))?;
        if let Some(Identity { key, certificate, .. }) = identity {
            connector.set_private_key_file(key, SslFiletype::PEM)?;
            connector.set_certificate_chain_file(certificate)?;
        }
        let Stream::Plain(stream) = std::mem::replace(&mut self.stream, Stream::Gone) else {
            bail!("the connection is not in plain text");
        };
        let stream = connector.build().connect(hostname, stream).with_context(|| format!("no TLS with {hostname}"))?;
        self.stream = Stream::Tls(Box::new(stream));
        Ok(())
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Stream::Gone => bail!("the connection is gone"),
        }
        .context("cannot write to the server")
    }

    /// One line without its CRLF.
    pub fn line(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(end) = self.received.windows(2).position(|pair| pair == b"\r\n") {
                let mut line: Vec<u8> = self.received.drain(..end + 2).collect();
                line.truncate(end);
                return Ok(line);
            }
            self.receive()?;
        }
    }

    /// Exactly this many bytes.
    pub fn bytes(&mut self, count: usize) -> Result<Vec<u8>> {
        while self.received.len() < count {
            self.receive()?;
        }
        Ok(self.received.drain(..count).collect())
    }

    fn receive(&mut self) -> Result<()> {
        let mut buffer = [0; 65536];
        let count = match &mut self.stream {
            Stream::Plain(stream) => stream.read(&mut buffer),
            Stream::Tls(stream) => stream.read(&mut buffer),
            Stream::Gone => bail!("the connection is gone"),
        }
        .context("cannot read from the server")?;
        if count == 0 {
            bail!("the server closed the connection");
        }
        self.received.extend(&buffer[..count]);
        Ok(())
    }
}
