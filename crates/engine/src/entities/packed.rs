//! Packing: the attributes and tags of a stored entity as a few bytes, and back into Cedar's values.
//!
//! Cedar's own form of an entity takes more than two kilobytes however little it says. Bytes by the order of the
//! schema's declarations take tens, and making Cedar's form of the two or three entities that a decision looks at costs
//! less than fetching scattered memory does. Values that are dear to make are held as they are and shared.

use std::collections::BTreeMap;
use std::sync::Arc;

use cedar_policy_core::ast::{Eid, EntityUID, Literal, Value, ValueKind};
use smol_str::SmolStr;

use crate::schema::{EntitySchema, Fields, Kind};

/// A set with more members than this is held: making it anew would cost each decision that looks at its entity.
const MOST_MEMBERS: usize = 8;

/// The attributes and tags of one entity, by the schema they were read with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Packed {
    bytes: Box<[u8]>,
    /// What the bytes only point to, in order.
    held: Box<[Value]>,
}

/// The attributes or the tags of an entity.
pub(crate) type Members = BTreeMap<SmolStr, Value>;

/// The same as they come out, by name: Cedar makes a map of its own of them.
pub(crate) type Opened = Vec<(SmolStr, Value)>;

// What stands before a value.
const ABSENT: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const LONG: u8 = 3;
const TEXT: u8 = 4;
const ENTITY: u8 = 5;
const SET: u8 = 6;
const RECORD: u8 = 7;
const HELD: u8 = 8;

/// What is packed so far.
#[derive(Default)]
struct Packer {
    bytes: Vec<u8>,
    held: Vec<Value>,
}

/// What is still to be unpacked.
struct Unpacker<'p> {
    bytes: &'p [u8],
    held: &'p [Value],
}

// === impl Packed ===

impl Packed {
    /// Packs what was read by `schema`.
    pub(crate) fn of(schema: &EntitySchema, attributes: &Members, tags: &Members) -> Self {
        let mut packer = Packer::default();
        packer.fields(&schema.attributes, attributes);
        if let Some(kind) = &schema.tags {
            packer.number(tags.len() as u64);
            for (name, value) in tags {
                packer.text(name);
                packer.value(kind, value);
            }
        }
        Self {
            bytes: packer.bytes.into(),
            held: packer.held.into(),
        }
    }

    /// Unpacks attributes and tags by the schema they were packed with; with another one, the result means nothing.
    pub(crate) fn open(&self, schema: &EntitySchema) -> Option<(Opened, Opened)> {
        let mut unpacker = Unpacker {
            bytes: &self.bytes,
            held: &self.held,
        };
        let attributes = unpacker.fields(&schema.attributes)?;
        let mut tags = Opened::new();
        if let Some(kind) = &schema.tags {
            for _ in 0..unpacker.number()? {
                let name = SmolStr::new(unpacker.text()?);
                let tag = unpacker.next()?;
                tags.push((name, unpacker.value(kind, tag)?));
            }
        }
        Some((attributes, tags))
    }
}

// === impl Packer ===

impl Packer {
    fn fields(&mut self, fields: &Fields, values: &Members) {
        for (name, field) in fields {
            match values.get(name) {
                Some(value) => self.value(&field.kind, value),
                None => self.bytes.push(ABSENT),
            }
        }
    }

    fn value(&mut self, kind: &Kind, value: &Value) {
        match (kind, &value.value) {
            (Kind::Bool, ValueKind::Lit(Literal::Bool(flag))) => {
                self.bytes.push(if *flag { TRUE } else { FALSE });
            }
            (Kind::Long, ValueKind::Lit(Literal::Long(long))) => {
                self.bytes.push(LONG);
                // Small numbers of either sign become small ones without.
                self.number(((long << 1) ^ (long >> 63)).cast_unsigned());
            }
            (Kind::String, ValueKind::Lit(Literal::String(text))) => {
                self.bytes.push(TEXT);
                self.text(text);
            }
            (Kind::Entity(of), ValueKind::Lit(Literal::EntityUID(uid)))
                if uid.entity_type() == of =>
            {
                self.bytes.push(ENTITY);
                self.text(uid.eid().as_ref());
            }
            (Kind::Set(element), ValueKind::Set(set)) if set.len() <= MOST_MEMBERS => {
                self.bytes.push(SET);
                self.number(set.len() as u64);
                for member in set.iter() {
                    self.value(element, member);
                }
            }
            (Kind::Record(fields), ValueKind::Record(members)) => {
                self.bytes.push(RECORD);
                self.fields(fields, members);
            }
            _ => {
                self.bytes.push(HELD);
                self.held.push(value.clone());
            }
        }
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Writes seven bits a byte, the lowest first.
    fn number(&mut self, mut number: u64) {
        loop {
            let [low, ..] = number.to_le_bytes();
            number >>= 7;
            if number == 0 {
                self.bytes.push(low & 0x7f);
                return;
            }
            self.bytes.push(low | 0x80);
        }
    }
}

// === impl Unpacker ===

impl<'p> Unpacker<'p> {
    fn fields(&mut self, fields: &Fields) -> Option<Opened> {
        let mut members = Opened::with_capacity(fields.len());
        for (name, field) in fields {
            match self.next()? {
                ABSENT => {}
                tag => {
                    members.push((name.clone(), self.value(&field.kind, tag)?));
                }
            }
        }
        Some(members)
    }

    fn value(&mut self, kind: &Kind, tag: u8) -> Option<Value> {
        Some(match (tag, kind) {
            (FALSE, _) => Value::new(false, None),
            (TRUE, _) => Value::new(true, None),
            (LONG, _) => {
                let number = self.number()?;
                Value::new(
                    (number >> 1).cast_signed() ^ -(number & 1).cast_signed(),
                    None,
                )
            }
            (TEXT, _) => Value::new(SmolStr::new(self.text()?), None),
            (ENTITY, Kind::Entity(of)) => {
                let id = Eid::new(self.text()?);
                Value::new(EntityUID::from_components(of.clone(), id, None), None)
            }
            (SET, Kind::Set(element)) => {
                let mut members = Vec::with_capacity(MOST_MEMBERS);
                for _ in 0..self.number()? {
                    let tag = self.next()?;
                    members.push(self.value(element, tag)?);
                }
                Value::set(members, None)
            }
            (RECORD, Kind::Record(fields)) => {
                let members = self.fields(fields)?.into_iter().collect();
                Value::record_arc(Arc::new(members), None)
            }
            (HELD, _) => {
                let (first, rest) = self.held.split_first()?;
                self.held = rest;
                first.clone()
            }
            _ => return None,
        })
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    fn text(&mut self) -> Option<&'p str> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        std::str::from_utf8(text).ok()
    }

    fn number(&mut self) -> Option<u64> {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.next()?;
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
            shift += 7;
        }
    }
}

#[cfg(test)]
mod tests;
