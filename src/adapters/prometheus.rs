//! The figures of this daemon for a monitoring system: Prometheus text over HTTP, without a password.
//!
//! Whoever counts or measures says so with the `metrics` macros, which do nothing where this was not started.

use std::error::Error;
use std::net::SocketAddr;

use metrics::{describe_counter, describe_gauge};
use metrics_exporter_prometheus::PrometheusBuilder;
use tracing::error;

/// Why the figures cannot be told.
#[derive(Debug, thiserror::Error)]
#[error("cannot tell metrics on {listen}: choose another address and port")]
pub struct MetricsError {
    listen: SocketAddr,
    #[source]
    source: Box<dyn Error + Send + Sync>,
}

/// Listens, and answers from now on; within the runtime, once in a process.
pub fn serve(listen: SocketAddr) -> Result<(), MetricsError> {
    let failed = |source: Box<dyn Error + Send + Sync>| MetricsError { listen, source };
    let built = PrometheusBuilder::new().with_http_listener(listen).build();
    let (recorder, answers) = built.map_err(|error| failed(error.into()))?;
    // What it refuses is a recorder, which nobody needs in an error.
    metrics::set_global_recorder(recorder).map_err(|error| failed(error.to_string().into()))?;
    describe_gauge!(
        "pec_milter_certificate_expiry_seconds",
        "Seconds until this provider's certificate expires, negative after; NaN when it is no longer configured"
    );
    describe_gauge!(
        "pec_milter_crl_next_update_seconds",
        "Seconds until the next revocation list of a CA is due, negative after"
    );
    describe_gauge!("pec_milter_directory_age_seconds", "Seconds since the providers directory was last current");
    describe_counter!("pec_milter_directory_refresh_failures_total", "Attempts at a newer directory that failed");
    describe_counter!("pec_milter_sha1_messages_total", "Certified messages of other providers signed with SHA-1");
    describe_counter!("pec_milter_signatures_total", "Messages signed");
    describe_counter!("pec_milter_signing_failures_total", "Messages that could not be signed, and wait");
    tokio::spawn(async move {
        if answers.await.is_err() {
            error!("metrics are no longer told");
        }
    });
    Ok(())
}
