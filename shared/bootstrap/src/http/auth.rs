//! Users and passwords of the web configuration.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use farview_config::Secret;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

/// Most verdicts remembered. Wrong passwords are remembered too, so the number must not be theirs to choose.
const MAX_REMEMBERED: usize = 1024;

/// Checks passwords against bcrypt hashes.
///
/// A hash takes tens of milliseconds of CPU on purpose, so one is computed at a time and verdicts are remembered, under a
/// hash of user, bcrypt hash and password that is keyed anew in each process: what is in memory gives no password away and
/// no verdict on one user can be taken for another's. An unknown user costs as much as a known one.
pub(super) struct Users {
    hashes: BTreeMap<String, Secret>,
    key: [u8; 32],
    remembered: Mutex<HashMap<[u8; 32], bool>>,
    turn: Semaphore,
}

impl Users {
    /// Takes the users of a configuration; a hash that is none is an error that names the user.
    pub(super) fn new(hashes: BTreeMap<String, Secret>) -> anyhow::Result<Self> {
        for (user, hash) in &hashes {
            hash.expose()
                .parse::<bcrypt::HashParts>()
                .map_err(|_| anyhow::anyhow!("basic_auth_users: the password of {user:?} is not a bcrypt hash"))?;
        }
        let mut key = [0; 32];
        rustls::crypto::aws_lc_rs::default_provider()
            .secure_random
            .fill(&mut key)
            .map_err(|_| anyhow::anyhow!("no random bytes"))
            .context("make a key for the memory of passwords")?;
        Ok(Self { hashes, key, remembered: Mutex::default(), turn: Semaphore::new(1) })
    }

    /// Tells whether anybody has to say who they are.
    pub(super) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Tells whether the value of an `Authorization` header lets its sender in.
    pub(super) async fn admits(self: &Arc<Self>, header: Option<&str>) -> bool {
        let Some((user, password)) = header.and_then(credentials) else { return false };
        // The first user's hash stands in for an unknown one's: the same work, and the verdict is no.
        let known = self.hashes.get(&user);
        let Some(hash) = known.or_else(|| self.hashes.values().next()) else { return false };
        let verdict = self.verdict(&user, hash, password).await;
        verdict && known.is_some()
    }

    async fn verdict(self: &Arc<Self>, user: &str, hash: &Secret, password: Secret) -> bool {
        let id = self.id(user, hash, &password);
        if let Some(verdict) = self.remembered.lock().get(&id) {
            return *verdict;
        }
        let Ok(_turn) = self.turn.acquire().await else { return false };
        let hash = hash.clone();
        let work = move || bcrypt::verify(password.expose(), hash.expose()).unwrap_or(false);
        let verdict = tokio::task::spawn_blocking(work).await.unwrap_or(false);
        let mut remembered = self.remembered.lock();
        if remembered.len() >= MAX_REMEMBERED {
            remembered.retain(|_, verdict| *verdict);
        }
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(id, verdict);
        verdict
    }

    fn id(&self, user: &str, hash: &Secret, password: &Secret) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(self.key);
        for part in [user, hash.expose(), password.expose()] {
            // With its length in front, no part can pretend to be the beginning of the next.
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}

/// Takes apart `Basic base64(user:password)`, RFC 7617.
fn credentials(header: &str) -> Option<(String, Secret)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), Secret::new(password)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Arc<Users> {
        let hash = |password| Secret::new(bcrypt::hash(password, 4).unwrap());
        let hashes = BTreeMap::from([("alice".to_owned(), hash("pa:ss")), ("bob".to_owned(), hash("word"))]);
        Arc::new(Users::new(hashes).unwrap())
    }

    fn header(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    #[tokio::test]
    async fn the_right_password_of_a_known_user_is_let_in_and_nothing_else() {
        let users = users();
        for _ in 0..2 {
            assert!(users.admits(Some(&header("alice:pa:ss"))).await);
            assert!(users.admits(Some(&header("bob:word").replacen("Basic", "basic", 1))).await);
            for wrong in ["alice:word", "bob:pa:ss", "alice:", "alice", "carol:pa:ss", ":", ""] {
                assert!(!users.admits(Some(&header(wrong))).await, "{wrong}");
            }
            // The hash itself is no password (CVE-2022-46146).
            let hash = users.hashes["alice"].expose().to_owned();
            assert!(!users.admits(Some(&header(&format!("alice:{hash}")))).await);
            for nonsense in ["Basic", "Basic %%%", "Bearer x", ""] {
                assert!(!users.admits(Some(nonsense)).await, "{nonsense}");
            }
            assert!(!users.admits(None).await);
        }
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let users = users();
        assert!(users.admits(Some(&header("alice:pa:ss"))).await);
        for i in 0..MAX_REMEMBERED + 10 {
            assert!(!users.admits(Some(&header(&format!("alice:{i}")))).await);
        }
        assert!(users.remembered.lock().len() <= MAX_REMEMBERED);
        assert!(users.remembered.lock().values().any(|verdict| *verdict), "a user who is let in stays remembered");
    }

    #[test]
    fn a_password_in_the_clear_is_refused() {
        let users = BTreeMap::from([("alice".to_owned(), Secret::new("hunter2"))]);
        let error = Users::new(users).map(|_| ()).unwrap_err().to_string();
        assert_eq!(error, "basic_auth_users: the password of \"alice\" is not a bcrypt hash");
    }
}
