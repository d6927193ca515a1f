//! Secrets of webhooks: kept sealed, shown once, and what a message is signed with (Standard Webhooks).

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use remit_core::{TenantId, Timestamp, WebhookId};
use remit_store::SealedSecrets;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::Sha256;

use crate::problem::{Kind, Problem};

/// What a secret begins with as it is shown.
const PREFIX: &str = "whsec_";
/// How many bytes a secret has.
const BYTES: usize = 32;

/// Seals secrets, so that a stolen database signs nothing.
pub(super) struct Vault(Option<LessSafeKey>);

/// A secret to sign with.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret([u8; BYTES]);

// === impl Vault ===

impl Vault {
    pub(super) fn new(key: [u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, &key);
        Self(key.ok().map(LessSafeKey::new))
    }

    /// Writes a secret in a way that only this installation can read, and only as that of this webhook.
    ///
    /// # Errors
    ///
    /// `internal` when the system gives no random bytes.
    pub(super) fn seal(
        &self,
        (tenant, webhook): (TenantId, WebhookId),
        secret: &Secret,
    ) -> Result<String, Problem> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce)
            .map_err(|error| Problem::caused(Kind::INTERNAL, error.to_string()))?;
        let mut sealed = secret.0.to_vec();
        let key = self.key()?;
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(about(tenant, webhook)),
            &mut sealed,
        )
        .map_err(|error| Problem::caused(Kind::INTERNAL, error.to_string()))?;
        let mut text = nonce.to_vec();
        text.extend(sealed);
        Ok(BASE64_STANDARD.encode(text))
    }

    /// Returns what a webhook's messages are signed with at a time: the newest secret first.
    ///
    /// # Errors
    ///
    /// `internal` where one was sealed by another installation.
    pub(super) fn open(
        &self,
        of: (TenantId, WebhookId),
        sealed: &SealedSecrets,
        now: Timestamp,
    ) -> Result<Vec<Secret>, Problem> {
        let before = sealed.before.as_ref().filter(|(_, until)| *until > now);
        let texts = [Some(&sealed.now), before.map(|(text, _)| text)];
        texts
            .into_iter()
            .flatten()
            .map(|text| self.open_one(of, text))
            .collect()
    }

    fn open_one(
        &self,
        (tenant, webhook): (TenantId, WebhookId),
        text: &str,
    ) -> Result<Secret, Problem> {
        let wrong = || {
            Problem::caused(
                Kind::INTERNAL,
                "the secret of a webhook was sealed with another key",
            )
        };
        let bytes = BASE64_STANDARD.decode(text).map_err(|_| wrong())?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>().ok_or_else(wrong)?;
        let mut sealed = sealed.to_vec();
        let plain = self
            .key()?
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(about(tenant, webhook)),
                &mut sealed,
            )
            .map_err(|_| wrong())?;
        let plain: &[u8] = plain;
        plain.try_into().map(Secret).map_err(|_| wrong())
    }

    fn key(&self) -> Result<&LessSafeKey, Problem> {
        let missing = || {
            Problem::caused(
                Kind::INTERNAL,
                "there is no key for the secrets of webhooks",
            )
        };
        self.0.as_ref().ok_or_else(missing)
    }
}

/// What a sealed secret belongs to: it opens nowhere else.
fn about(tenant: TenantId, webhook: WebhookId) -> Vec<u8> {
    let mut bytes = tenant.uuid().as_bytes().to_vec();
    bytes.extend(webhook.uuid().as_bytes());
    bytes
}

// === impl Secret ===

impl Secret {
    /// Makes a new one.
    ///
    /// # Errors
    ///
    /// `internal` when the system gives no random bytes.
    pub(super) fn generate() -> Result<Self, Problem> {
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes)
            .map_err(|error| Problem::caused(Kind::INTERNAL, error.to_string()))?;
        Ok(Self(bytes))
    }

    /// Returns the text that its receiver keeps: to show once, and never to a log.
    pub(super) fn reveal(&self) -> String {
        format!("{PREFIX}{}", BASE64_STANDARD.encode(self.0))
    }

    /// Signs a message: `v1,` and the HMAC-SHA-256 of its id, the time and the body.
    fn sign(&self, id: &str, seconds: i64, body: &str) -> Option<String> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body.as_bytes());
        let tag = mac.finalize().into_bytes();
        Some(format!("v1,{}", BASE64_STANDARD.encode(tag)))
    }
}

/// Signs a message with each of the secrets: the value of `webhook-signature`.
pub(super) fn signatures(secrets: &[Secret], id: &str, seconds: i64, body: &str) -> String {
    let signed = secrets.iter();
    let signed: Vec<String> = signed
        .filter_map(|secret| secret.sign(id, seconds, body))
        .collect();
    signed.join(" ")
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that the standard publishes.
    #[test]
    fn it_signs_as_the_standard_does() {
        let key = BASE64_STANDARD
            .decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
            .unwrap_or_default();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok();
        if let Some(mac) = &mut mac {
            mac.update(b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{\"test\": 2432232314}");
        }
        let tag = mac.map(|mac| BASE64_STANDARD.encode(mac.finalize().into_bytes()));
        assert_eq!(
            tag.as_deref(),
            Some("g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
        );
    }

    #[test]
    fn a_sealed_secret_opens_only_where_it_belongs() {
        let vault = Vault::new([7; 32]);
        let of = |tenant: u128, webhook: u128| {
            (
                TenantId::from_uuid(uuid::Uuid::from_u128(tenant)),
                WebhookId::from_uuid(uuid::Uuid::from_u128(webhook)),
            )
        };
        let secret = Secret([9; BYTES]);
        let sealed = vault.seal(of(1, 2), &secret).ok().unwrap_or_default();
        assert_ne!(
            vault.seal(of(1, 2), &secret).ok().unwrap_or_default(),
            sealed
        );
        assert!(!sealed.contains(secret.reveal().trim_start_matches(PREFIX)));
        let opens =
            |vault: &Vault, of, text: &str| vault.open_one(of, text).ok() == Some(secret.clone());
        assert!(opens(&vault, of(1, 2), &sealed));
        assert!(!opens(&vault, of(1, 3), &sealed));
        assert!(!opens(&vault, of(2, 2), &sealed));
        assert!(!opens(&Vault::new([8; 32]), of(1, 2), &sealed));
        let mut altered = BASE64_STANDARD.decode(&sealed).unwrap_or_default();
        altered.iter_mut().take(20).for_each(|byte| *byte ^= 1);
        assert!(!opens(&vault, of(1, 2), &BASE64_STANDARD.encode(altered)));
        assert!(!opens(&vault, of(1, 2), ""));
    }

    #[test]
    fn both_secrets_sign_until_the_old_one_is_over() {
        let vault = Vault::new([7; 32]);
        let of = (TenantId::NIL, WebhookId::NIL);
        let seal = |byte| {
            vault
                .seal(of, &Secret([byte; BYTES]))
                .ok()
                .unwrap_or_default()
        };
        let until = Timestamp::from_micros(10);
        let sealed = SealedSecrets {
            now: seal(1),
            before: Some((seal(2), until)),
        };
        let open = |now| vault.open(of, &sealed, Timestamp::from_micros(now)).ok();
        assert_eq!(open(9), Some(vec![Secret([1; BYTES]), Secret([2; BYTES])]));
        assert_eq!(open(10), Some(vec![Secret([1; BYTES])]));
    }
}
