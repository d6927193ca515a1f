//! Decoding: JSON in, Cedar values out, by the types of the schema.
//!
//! Cedar's own path from JSON tries every shape a value could have and costs about 100 µs a context; this one knows the
//! single shape that the schema declares. What it accepts is well typed, so that no second check is needed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use cedar_policy_core::ast::{
    Eid, EntityType, EntityUID, Literal, Name, PartialValue, Value, ValueKind,
};
use cedar_policy_core::extensions::Extensions;
use remit_core::{Note, is_nfc};
use serde_json::{Map, Number, Value as Json};
use smol_str::SmolStr;

use crate::schema::{CompiledSchema, Fields, Kind};

/// The most notes that one question can earn; the question itself is recorded whole.
const MOST_NOTES: usize = 256;

/// The time that a thread made last.
type Last = RefCell<Option<(i64, Value)>>;

/// Reads JSON by the types of a schema, remembering where it stands and what it remarked.
#[derive(Debug)]
pub(crate) struct Reader<'r> {
    schema: &'r CompiledSchema,
    path: String,
    notes: &'r mut Vec<Note>,
}

/// Why a value could not be read; the reader's notes say where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It has another type or form than declared.
    Mistyped,
    /// A required member is not there.
    Missing,
}

// === impl Reader ===

impl<'r> Reader<'r> {
    /// Starts at the member `root`, such as `context`.
    pub(crate) fn new(schema: &'r CompiledSchema, root: &str, notes: &'r mut Vec<Note>) -> Self {
        Self {
            schema,
            path: root.to_owned(),
            notes,
        }
    }

    /// Reads the member `name` of the present place.
    pub(crate) fn within<T>(&mut self, name: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(name);
        let result = read(self);
        self.path.truncate(length);
        result
    }

    /// Reads one value.
    ///
    /// # Errors
    ///
    /// [`Fault`], with a note of the member at fault.
    pub(crate) fn value(&mut self, kind: &Kind, json: &Json) -> Result<Value, Fault> {
        let value = match (kind, json) {
            (Kind::Bool, Json::Bool(flag)) => Some(Value::new(*flag, None)),
            (Kind::Long, Json::Number(number)) => whole(number).map(|n| Value::new(n, None)),
            (Kind::String, Json::String(text)) => Some(Value::new(SmolStr::new(text), None)),
            (Kind::Set(element), Json::Array(items)) => {
                let mut values = Vec::with_capacity(items.len());
                for (place, item) in items.iter().enumerate() {
                    values.push(self.item(place, element, item)?);
                }
                Some(Value::set(values, None))
            }
            (Kind::Record(fields), Json::Object(members)) => {
                let values = self.record(fields, members)?;
                Some(Value::record_arc(Arc::new(values), None))
            }
            (Kind::Entity(of), Json::Object(members)) => {
                entity(self.schema, of, members).map(|uid| Value::new(uid, None))
            }
            (Kind::Extension(name), _) => extension_value(name, json),
            _ => None,
        };
        value.ok_or_else(|| self.mistyped(kind, json))
    }

    /// Reads the members of an object; undeclared ones are left out and noted.
    ///
    /// # Errors
    ///
    /// [`Fault`], with a note of the member at fault.
    pub(crate) fn record(
        &mut self,
        fields: &Fields,
        members: &Map<String, Json>,
    ) -> Result<BTreeMap<SmolStr, Value>, Fault> {
        self.undeclared_among(fields, members, |_| false);
        let mut values = BTreeMap::new();
        for (name, field) in fields {
            let given = members.get(name.as_str());
            // What may be left out is left out by null as well: many callers spell it so, and it grants nothing that
            // leaving it out would not.
            if let Some(json) = given.filter(|json| field.required || !json.is_null()) {
                let value = self.within(name, |at| at.value(&field.kind, json))?;
                values.insert(name.clone(), value);
            }
        }
        self.complete(fields, &values)?;
        Ok(values)
    }

    /// Checks that every required member has a value.
    ///
    /// # Errors
    ///
    /// [`Fault::Missing`], with a note of each that has none.
    pub(crate) fn complete(
        &mut self,
        fields: &Fields,
        values: &BTreeMap<SmolStr, Value>,
    ) -> Result<(), Fault> {
        let mut complete = Ok(());
        for (name, field) in fields {
            if field.required && !values.contains_key(name) {
                self.within(name, Self::missing);
                complete = Err(Fault::Missing);
            }
        }
        complete
    }

    /// Notes every member that `fields` does not declare and that is not Remit's `own`, by name.
    ///
    /// The order of members in a question is not part of it: recorded and asked again, it has another.
    pub(crate) fn undeclared_among(
        &mut self,
        fields: &Fields,
        members: &Map<String, Json>,
        own: impl Fn(&str) -> bool,
    ) {
        let undeclared = members
            .keys()
            .filter(|name| !fields.contains_key(name.as_str()) && !own(name));
        let mut undeclared: Vec<&String> = undeclared.collect();
        undeclared.sort_unstable();
        for name in undeclared {
            self.within(name, Self::undeclared);
        }
    }

    /// Notes that the schema does not declare this member.
    fn undeclared(&mut self) {
        let member = self.path.clone();
        self.remark(Note::Undeclared { member });
    }

    /// Notes that no caller may assert this member.
    pub(crate) fn not_assertable(&mut self) {
        let member = self.path.clone();
        self.remark(Note::NotAssertable { member });
    }

    /// Notes that something else was expected here.
    pub(crate) fn unexpected(&mut self, expected: String) -> Fault {
        let member = self.path.clone();
        self.notes.push(Note::Mistyped { member, expected });
        Fault::Mistyped
    }

    /// Notes that what is required is not here.
    pub(crate) fn missing(&mut self) {
        let member = self.path.clone();
        self.notes.push(Note::Missing { member });
    }

    fn mistyped(&mut self, kind: &Kind, json: &Json) -> Fault {
        let mut expected = expected(self.schema, kind);
        if matches!(kind, Kind::Entity(_)) && id_of(json).is_some_and(|id| !is_nfc(id)) {
            expected.push_str(", the id in Unicode normal form C (NFC)");
        }
        self.unexpected(expected)
    }

    /// Notes what does not end the reading, as long as there is room for it.
    fn remark(&mut self, note: Note) {
        if self.notes.len() < MOST_NOTES {
            self.notes.push(note);
        }
    }

    fn item(&mut self, place: usize, element: &Kind, json: &Json) -> Result<Value, Fault> {
        let length = self.path.len();
        // Writing to a string does not fail.
        let _ = write!(self.path, "[{place}]");
        let value = self.value(element, json);
        self.path.truncate(length);
        value
    }
}

/// Reads a whole number, also one written with a point: JSON knows no difference between `10` and `10.0`, and a record
/// in canonical form (RFC 8785) keeps none.
fn whole(number: &Number) -> Option<i64> {
    /// Beyond it a double no longer tells neighbours apart.
    const MOST: f64 = 9_007_199_254_740_992.0;
    number.as_i64().or_else(|| {
        let number = number
            .as_f64()
            .filter(|n| n.fract() == 0.0 && n.abs() < MOST)?;
        format!("{number:.0}").parse().ok()
    })
}

/// Makes a value of the extension type `name` from its text; nothing when the text is not one.
pub(crate) fn extension(name: &Name, text: &str) -> Option<Value> {
    static IP: LazyLock<Option<Name>> = LazyLock::new(|| Name::parse_unqualified_name("ip").ok());
    let constructor = if is_ip(name) { IP.as_ref()? } else { name };
    let function = Extensions::all_available().func(constructor).ok()?;
    concrete(
        function
            .call(&[Value::new(SmolStr::new(text), None)])
            .ok()?,
    )
}

/// Makes a `datetime` of milliseconds since the epoch.
///
/// Cedar makes one only from text. A busy thread asks for the same millisecond again and again, so it keeps the last.
pub(crate) fn datetime(millis: i64) -> Option<Value> {
    thread_local! {
        static LAST: Last = const { RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| remembered(last, millis))
}

/// Makes a `datetime` as [`datetime`] does, and remembers it apart: a thread asks for one task again and again as well.
pub(crate) fn expiry(millis: i64) -> Option<Value> {
    thread_local! {
        static LAST: Last = const { RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| remembered(last, millis))
}

fn remembered(last: &mut Option<(i64, Value)>, millis: i64) -> Option<Value> {
    if last.as_ref().is_none_or(|(of, _)| *of != millis) {
        *last = Some((millis, datetime_of(millis)?));
    }
    last.as_ref().map(|(_, value)| value.clone())
}

fn datetime_of(millis: i64) -> Option<Value> {
    static NAMES: LazyLock<Option<(Name, Value)>> = LazyLock::new(|| {
        let datetime = Name::parse_unqualified_name("datetime").ok()?;
        let epoch = extension(&datetime, "1970-01-01")?;
        Some((Name::parse_unqualified_name("offset").ok()?, epoch))
    });
    static DURATION: LazyLock<Option<Name>> =
        LazyLock::new(|| Name::parse_unqualified_name("duration").ok());
    let (offset, epoch) = NAMES.as_ref()?;
    let since = extension(DURATION.as_ref()?, &format!("{millis}ms"))?;
    let offset = Extensions::all_available().func(offset).ok()?;
    concrete(offset.call(&[epoch.clone(), since]).ok()?)
}

/// Collects the entities that an expression can get at through a value: itself, or those in its record members.
///
/// Not those in sets: no expression takes one element out of a set, so none can be dereferenced.
pub(crate) fn references<'v>(value: &'v Value, found: &mut Vec<&'v Arc<EntityUID>>) {
    match &value.value {
        ValueKind::Lit(Literal::EntityUID(uid)) => found.push(uid),
        ValueKind::Record(members) => {
            for value in members.values() {
                references(value, found);
            }
        }
        ValueKind::Lit(_) | ValueKind::Set(_) | ValueKind::ExtensionValue(_) => {}
    }
}

/// Reads `{"type": …, "id": …}`, bare or inside `__entity`.
fn entity(
    schema: &CompiledSchema,
    of: &EntityType,
    members: &Map<String, Json>,
) -> Option<EntityUID> {
    let members = match members.get("__entity") {
        Some(escaped) if members.len() == 1 => escaped.as_object()?,
        _ => members,
    };
    if members.len() != 2 {
        return None;
    }
    let kind = members.get("type")?.as_str()?;
    let id = members.get("id")?.as_str().filter(|id| is_nfc(id))?;
    if let Some(entity) = schema.entities.get(kind) {
        let known = entity.ids.as_ref().is_none_or(|ids| ids.contains(id));
        return (entity.name == *of && known)
            .then(|| EntityUID::from_components(entity.name.clone(), Eid::new(id), None));
    }
    // An action may be referred to as well, and only one that there is.
    let action = schema
        .actions
        .get(id)?
        .iter()
        .find(|action| action.uid.entity_type() == of)?;
    (of.to_string() == kind).then(|| EntityUID::clone(&action.uid))
}

/// Returns the id of what is written like an entity.
fn id_of(json: &Json) -> Option<&str> {
    json.get("__entity").unwrap_or(json).get("id")?.as_str()
}

/// Reads an extension value: its text, plain or as `{"fn", "arg"}`, bare or inside `__extn`.
///
/// A datetime may also be `{"fn": "offset", "args": […]}`: so Cedar writes one that it computed.
fn extension_value(name: &Name, json: &Json) -> Option<Value> {
    let members = match json {
        Json::String(text) => return extension(name, text),
        Json::Number(number) if name.to_string() == "decimal" => {
            return extension(name, &decimal(number)?);
        }
        Json::Object(members) => members,
        _ => return None,
    };
    let members = match members.get("__extn") {
        Some(escaped) if members.len() == 1 => escaped.as_object()?,
        _ => members,
    };
    if members.len() != 2 {
        return None;
    }
    let function = members.get("fn")?.as_str()?;
    if let Some(arguments) = members.get("args") {
        return offset(name, function, arguments.as_array()?);
    }
    let text = members.get("arg")?.as_str()?;
    let named = if is_ip(name) {
        function == "ip"
    } else {
        function == name.to_string()
    };
    named.then(|| extension(name, text)).flatten()
}

/// Spells a JSON number as a decimal, digit by digit as it was written: more than four places are refused, never rounded.
fn decimal(number: &Number) -> Option<String> {
    let digits = match number.as_i64() {
        Some(whole) => whole.to_string(),
        // Without an exponent, and the fewest digits that read back as the same number.
        None => number.as_f64()?.to_string(),
    };
    Some(if digits.contains('.') {
        digits
    } else {
        digits + ".0"
    })
}

/// Reads a datetime that is given as another one and a duration after it.
fn offset(name: &Name, function: &str, arguments: &[Json]) -> Option<Value> {
    let [moment, since] = arguments else {
        return None;
    };
    if function != "offset" || name.to_string() != "datetime" {
        return None;
    }
    let duration = Name::parse_unqualified_name("duration").ok()?;
    let values = [
        extension_value(name, moment)?,
        extension_value(&duration, since)?,
    ];
    let offset = Name::parse_unqualified_name(function).ok()?;
    let offset = Extensions::all_available().func(&offset).ok()?;
    concrete(offset.call(&values).ok()?)
}

/// Says in words what a type reads.
fn expected(schema: &CompiledSchema, kind: &Kind) -> String {
    match kind {
        Kind::Bool => "Bool: true or false".to_owned(),
        Kind::Long => "Long: a whole number of 64 bits".to_owned(),
        Kind::String => "String".to_owned(),
        Kind::Set(element) => format!("Set of {}", expected(schema, element)),
        Kind::Record(_) => "Record: an object".to_owned(),
        Kind::Entity(of) => {
            let name = of.to_string();
            let ids = schema
                .entities
                .get(name.as_str())
                .and_then(|entity| entity.ids.as_ref());
            match ids {
                None => format!(r#"{name} entity: {{"type": "{name}", "id": …}}"#),
                Some(ids) => format!("{name} entity: one of {}", list(ids)),
            }
        }
        Kind::Extension(name) => match name.to_string().as_str() {
            "decimal" => {
                "decimal: a text such as `12.34`, or a number of at most four decimal places"
                    .to_owned()
            }
            "ipaddr" => "ipaddr: a text such as `192.0.2.0/24`".to_owned(),
            "datetime" => "datetime: a text such as `2026-11-22T09:30:00Z`".to_owned(),
            "duration" => "duration: a text such as `1h30m`".to_owned(),
            other => format!("{other}: the text its constructor takes"),
        },
    }
}

/// Writes ids as a list for a message.
pub(crate) fn list<'i>(ids: impl IntoIterator<Item = &'i SmolStr>) -> String {
    let quoted: Vec<String> = ids
        .into_iter()
        .map(|id| format!("`{}`", id.escape_debug()))
        .collect();
    quoted.join(", ")
}

fn is_ip(name: &Name) -> bool {
    name.as_ref().basename().as_ref() == "ipaddr"
}

fn concrete(value: PartialValue) -> Option<Value> {
    match value {
        PartialValue::Value(value) => Some(value),
        PartialValue::Residual(_) => None,
    }
}
