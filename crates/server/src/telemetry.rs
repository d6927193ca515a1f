//! Telemetry of the process: log lines on stderr, and traces where the standard `OTEL_*` variables ask for them.

use std::io;

use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::runtime::Tokio;
use opentelemetry_sdk::trace::SdkTracerProvider;
use opentelemetry_sdk::trace::span_processor_with_async_runtime::BatchSpanProcessor;
use remit_api::{Adopt, TraceContext};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, ParseError, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::{Registry, fmt};

use crate::config::{self, LogFormat};
use crate::error::Error;

/// What has to be stopped for nothing to be lost.
#[derive(Debug)]
pub(crate) struct Telemetry(Option<SdkTracerProvider>);

/// Reads a filter of log lines: a level, or targets with a level each.
///
/// # Errors
///
/// [`ParseError`] for anything else.
pub(crate) fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(level)
}

/// Starts log lines, and traces where `OTEL_EXPORTER_OTLP_ENDPOINT` or its variant for traces is set.
///
/// Traces go out as OTLP over HTTP with protobuf bodies; endpoint, headers, timeouts, sampling, resource attributes
/// and batches follow the OpenTelemetry specification's variables.
///
/// # Errors
///
/// [`Error::Telemetry`] when an exporter cannot be made of those variables.
pub(crate) fn start(settings: &config::Telemetry) -> Result<Telemetry, Error> {
    let provider = if traces_wanted() {
        Some(provider()?)
    } else {
        None
    };
    let traces = provider.as_ref().map(|provider| {
        // Only our own spans: the exporter's HTTP client traces itself too.
        let ours = filter_fn(|span| span.target().starts_with("remit"));
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("remit"))
            .with_filter(ours)
    });
    let lines = fmt::layer().with_writer(io::stderr);
    let lines = match settings.format {
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            // The line of a request says all of it; its span would say the half of it again.
            .with_current_span(false)
            .with_span_list(false)
            .boxed(),
        LogFormat::Text => lines.with_ansi(false).boxed(),
    };
    let filter = filter(&settings.level).map_err(|why| Error::Telemetry(why.into()))?;
    // Spans are for traces alone: a line says all of it, and a span that nobody exports costs a request as much.
    let filter = filter_fn(|metadata| !metadata.is_span()).and(filter);
    let subscriber = Registry::default()
        .with(traces)
        .with(lines.with_filter(filter));
    // Only a second `serve` in one process could have set it before, and there is none.
    let _ = tracing::subscriber::set_global_default(subscriber);
    std::panic::set_hook(Box::new(|panic| {
        // The payload may quote what was being handled; where it happened is enough to find it.
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        tracing::error!(place, "panic");
    }));
    Ok(Telemetry(provider))
}

/// Puts a request's span into the trace that its caller is in, and tells where that is.
///
/// Without an exporter there is no span to tell of, and the caller's own position stands.
fn adopt(span: &Span, caller: Option<TraceContext>) -> Option<TraceContext> {
    if let Some(caller) = caller {
        let remote = SpanContext::new(
            TraceId::from_bytes(caller.trace.to_be_bytes()),
            SpanId::from_bytes(caller.span.to_be_bytes()),
            TraceFlags::new(caller.flags & 1),
            true,
            TraceState::default(),
        );
        // Without an exporter there is no layer to tell.
        let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(remote));
    }
    let context = span.context();
    let own = context.span().span_context().clone();
    if !own.is_valid() {
        return caller;
    }
    Some(TraceContext {
        trace: u128::from_be_bytes(own.trace_id().to_bytes()),
        span: u64::from_be_bytes(own.span_id().to_bytes()),
        flags: own.trace_flags().to_u8(),
    })
}

fn provider() -> Result<SdkTracerProvider, Error> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .build()
        .map_err(|why| Error::Telemetry(why.into()))?;
    let mut resource = Resource::builder();
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("remit");
    }
    Ok(SdkTracerProvider::builder()
        .with_span_processor(BatchSpanProcessor::builder(exporter, Tokio).build())
        .with_resource(resource.build())
        .build())
}

/// Says whether the standard variables ask for traces.
fn traces_wanted() -> bool {
    let value = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let endpoint =
        value("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or(value("OTEL_EXPORTER_OTLP_ENDPOINT"));
    let disabled =
        value("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let none = value("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
    endpoint.is_some() && !disabled && !none
}

// === impl Telemetry ===

impl Telemetry {
    /// Returns how a request joins its caller's trace; `None` where no traces are exported.
    pub(crate) fn adopt(&self) -> Option<Adopt> {
        self.0.as_ref().map(|_| adopt as Adopt)
    }

    /// Sends what is still in memory.
    pub(crate) async fn stop(self) {
        if let Some(provider) = self.0 {
            // It waits for the network, on a thread that may.
            let stopped = tokio::task::spawn_blocking(move || provider.shutdown()).await;
            if let Ok(Err(why)) = stopped {
                tracing::warn!(error = %why, "traces that were still in memory are lost");
            }
        }
    }
}
