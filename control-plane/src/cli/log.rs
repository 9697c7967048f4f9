//! The log on standard error.

use std::io;

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat, LogLevel};

/// Starts to write; `SEKISHO_LOG` overrides the configured level, module by module if need be.
pub(crate) fn start(config: &LogConfig) {
    let level = match config.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    // Libraries have no say below info: reqwest shows URLs, which may hold keys.
    let configured = format!("warn,sekisho={level}");
    let filter = EnvFilter::try_from_env("SEKISHO_LOG").unwrap_or_else(|_| configured.into());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // It fails only if a log was started before, which then goes on.
    let _ = match config.format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
