//! A JSON body in: read with limits, checked strictly, decoded with an error that names the member.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::App;
use crate::background::give_way;
use crate::json;
use crate::problem::{Kind, Problem};

/// The size from which a body is decoded where no decision waits for it, in bytes; a question never has it.
const LARGE: usize = 64 << 10;

/// The media type of every body but errors and metrics.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A type that a body is decoded into, with the limits of its body.
///
/// On AuthZEN routes unknown members are ignored, as the standard demands; on our own routes the type says
/// `deny_unknown_fields`, so that a misspelt member is an error and not silence.
pub(crate) trait Wire: DeserializeOwned {
    /// How large the body may be where the configured limit is smaller, in bytes.
    const BYTES: usize = 0;
    /// The most values (scalars, arrays and objects) in it.
    const NODES: usize = 10_000;
    /// Whether the body is an array; otherwise it is an object.
    const ARRAY: bool = false;
    /// Whether decoding a large one gives way to decisions.
    const PATIENT: bool = false;
}

/// The extractor of a JSON body; every failure is a [`Problem`], never the framework's 415 or 422.
pub(crate) struct Body<T>(pub(crate) T);

/// The extractor of a body of at most `T::BYTES`, for a handler that knows its form only from the headers.
pub(crate) struct Raw<T> {
    pub(crate) bytes: Bytes,
    limits: PhantomData<T>,
}

/// A JSON body out.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => ([(header::CONTENT_TYPE, JSON)], body).into_response(),
            Err(error) => Problem::caused(Kind::INTERNAL, error).into_response(),
        }
    }
}

// === impl Body ===

impl<T: Wire + Send + 'static> FromRequest<Arc<App>> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        check_content_type(request.headers())?;
        let bytes = read_for::<T>(request, app).await?;
        if bytes.len() < LARGE {
            return decode(&bytes).map(Body);
        }
        let decoded = move || decode(&bytes);
        if T::PATIENT {
            give_way(decoded).await?.map(Body)
        } else {
            app.blocking(decoded).await?.map(Body)
        }
    }
}

impl<T: Wire> FromRequest<Arc<App>> for Raw<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        let bytes = read_for::<T>(request, app).await?;
        Ok(Self {
            bytes,
            limits: PhantomData,
        })
    }
}

/// Reads a body within the limits of its type and of the configuration.
async fn read_for<T: Wire>(request: Request, app: &App) -> Result<Bytes, Problem> {
    let limit = T::BYTES.max(app.options.body_bytes);
    read(request, limit, app.options.body_deadline).await
}

/// Reads a body of at most `limit` bytes; a client that takes longer than `deadline` is holding the connection open.
async fn read(request: Request, limit: usize, deadline: Duration) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(
            Kind::TOO_LARGE,
            format!("the body is larger than {limit} bytes"),
        )
    };
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    // Refused before a byte of it is read.
    if announced.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > limit))
    {
        return Err(too_large());
    }
    let collected = Limited::new(request.into_body(), limit).collect();
    match tokio::time::timeout(deadline, collected).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::new(
            Kind::MALFORMED_BODY,
            "the body ended before it was complete",
        )),
        Err(_) => Err(Kind::BODY_TOO_SLOW.into()),
    }
}

/// Checks that the body says it is JSON in UTF-8.
pub(crate) fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let refuse = |what: &str| {
        Err(Problem::new(
            Kind::INVALID_REQUEST,
            format!("`Content-Type` {what}; send `application/json`"),
        ))
    };
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return refuse("must be sent exactly once");
    };
    let Ok(value) = value.to_str() else {
        return refuse("is not text");
    };
    let mut parts = value.split(';').map(str::trim);
    if !parts
        .next()
        .is_some_and(|media| media.eq_ignore_ascii_case("application/json"))
    {
        return refuse("is not JSON");
    }
    for parameter in parts {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim_matches('"');
        if name.eq_ignore_ascii_case("charset") && !value.eq_ignore_ascii_case("utf-8") {
            return refuse("names a charset other than UTF-8");
        }
    }
    Ok(())
}

/// Decodes the bytes of a body.
pub(crate) fn decode<T: Wire>(bytes: &[u8]) -> Result<T, Problem> {
    let checked = json::check(bytes, T::NODES, T::ARRAY)
        .map_err(|malformed| Problem::new(Kind::MALFORMED_BODY, malformed.to_string()))?;
    if checked.fractions {
        let mut value: Value = serde_json::from_slice(bytes)
            .map_err(|error| Problem::new(Kind::MALFORMED_BODY, error.to_string()))?;
        json::unify_numbers(&mut value);
        return from_value(value);
    }
    // What was checked is followed by nothing, so this reads all of it. To know the path costs, so only a mistake pays.
    if let Ok(value) = T::deserialize(&mut serde_json::Deserializer::from_slice(bytes)) {
        return Ok(value);
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| mistake(&error))
}

/// Decodes one value of a body that was checked before, such as an item of a batch.
pub(crate) fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(value).map_err(|error| mistake(&error))
}

/// Turns what serde says into a sentence about the member, without names of Rust types or what the caller sent.
fn mistake(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let path = error.path().to_string();
    let text = error.inner().to_string();
    let text = text
        .rfind(" at line ")
        .and_then(|end| text.get(..end))
        .unwrap_or(&text);
    let at_root = path == ".";
    let member = if at_root {
        "the body".to_owned()
    } else {
        format!("`{path}`")
    };
    let below = |name: &str| {
        if at_root {
            format!("`{name}`")
        } else {
            format!("`{path}.{name}`")
        }
    };
    let detail = if let Some(name) = quoted(text, "missing field ") {
        format!("{} is missing", below(name))
    } else if let Some((name, known)) = text
        .strip_prefix("unknown field ")
        .and_then(|rest| rest.split_once(", "))
    {
        // The path ends in the unknown member itself, or in the object around it, depending on who noticed.
        let name = name.trim_matches('`');
        let full = if path == name || path.ends_with(&format!(".{name}")) {
            format!("`{path}`")
        } else {
            below(name)
        };
        format!("{full} is not known here; {known}")
    } else if let Some((found, expected)) = text
        .strip_prefix("invalid type: ")
        .and_then(|rest| rest.rsplit_once(", expected "))
    {
        format!(
            "{member} must be {}, not {}",
            in_words(expected),
            in_words(found)
        )
    } else if let Some((_, expected)) = text
        .strip_prefix("unknown variant ")
        .and_then(|rest| rest.rsplit_once(", expected "))
    {
        format!("{member} must be {expected}")
    } else {
        format!("{member}: {text}")
    };
    Problem::new(Kind::INVALID_REQUEST, detail)
}

fn quoted<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    Some(text.strip_prefix(prefix)?.trim_matches('`'))
}

/// Says what kind of JSON value serde speaks of.
fn in_words(serde: &str) -> &str {
    let first = serde.split_once(' ').map_or(serde, |(first, _)| first);
    match first {
        "string" => "a string",
        "integer" | "floating" => "a number",
        "boolean" => "a boolean",
        "map" | "struct" => "an object",
        "sequence" | "tuple" => "an array",
        "unit" => "null",
        _ => match serde {
            "a map" => "an object",
            "a sequence" => "an array",
            "u8" | "u16" | "u32" | "u64" | "usize" | "i64" => "a whole number",
            other => other,
        },
    }
}

/// Takes `null` for an optional member as if it were left out; many clients write their empty fields that way.
pub(crate) fn absent_if_null<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Decodes a struct from an object and from nothing else; serde would take an array of its members in order as well.
pub(crate) fn object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(ObjectOnly(deserializer))
}

/// As [`object`], for a member that may be left out or `null`.
pub(crate) fn optional_object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|Object(value)| value))
}

struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        object(deserializer).map(Self)
    }
}

struct ObjectOnly<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for ObjectOnly<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
