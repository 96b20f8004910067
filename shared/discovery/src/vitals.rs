//! Which addresses are alive, told by whoever connects to them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::Address;

/// A shared board of signs of life. Users of addresses write it, the hold rule reads it, and a death asks for an early refresh.
///
/// Clones share the board.
#[derive(Debug, Clone)]
pub struct Vitals {
    alive: Arc<Mutex<HashMap<Address, bool>>>,
    deaths: watch::Sender<u64>,
}

impl Default for Vitals {
    fn default() -> Self {
        Self { alive: Arc::default(), deaths: watch::Sender::new(0) }
    }
}

impl Vitals {
    /// Records that an address answers its probes, or that it does not.
    pub fn set(&self, address: &Address, alive: bool) {
        let before = self.alive.lock().unwrap_or_else(PoisonError::into_inner).insert(address.clone(), alive);
        if before == Some(true) && !alive {
            self.deaths.send_modify(|n| *n += 1);
        }
    }

    /// Forgets an address that is no longer used.
    pub fn forget(&self, address: &Address) {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
    }

    /// Tells whether an address answered its last probes. Unknown addresses are not alive.
    pub fn is_alive(&self, address: &Address) -> bool {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).get(address).copied().unwrap_or(false)
    }

    pub(crate) fn deaths(&self) -> watch::Receiver<u64> {
        self.deaths.subscribe()
    }
}
