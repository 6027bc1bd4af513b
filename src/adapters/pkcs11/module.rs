//! A PKCS #11 library, loaded once for the process, and the sessions that are open with it.
//!
//! Each key has a pool of sessions. They are lent out one by one, and what is lent is counted, because starting the library
//! anew ends every session of it: that is done only while none is in use, and the handles are given up before, since the
//! library may hand out the same ones again. A library that hangs keeps the sessions that wait for it, and no more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use tracing::warn;
use zeroize::Zeroizing;

use super::session::{KeySession, RefusedPin};
use super::{Place, TokenError};

/// How long a signature waits for a session: long enough for a burst, well below the timeouts of Postfix.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// While a token is away, the library is not started anew more often than this.
const RESTART_PAUSE: Duration = Duration::from_secs(2);

/// The libraries of this process: PKCS #11 has one state for each, however many keys are in it.
static LOADED: Mutex<BTreeMap<PathBuf, Arc<Module>>> = Mutex::new(BTreeMap::new());

pub(super) struct Module {
    context: Pkcs11,
    state: Mutex<State>,
    /// Something was given back, or the library is started.
    changed: Condvar,
    /// One login at a time, so that a wrong PIN is tried once; held while a session is opened.
    refused: Mutex<Vec<RefusedPin>>,
}

#[derive(Default)]
struct State {
    pools: BTreeMap<PoolId, Pool>,
    last_pool: u64,
    /// Leases of all pools, but for those that wait for a restart.
    in_use: usize,
    is_restarting: bool,
    last_restart: Option<Instant>,
}

/// Names a key's sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PoolId(u64);

struct Pool {
    idle: Vec<KeySession>,
    lent: usize,
    limit: usize,
}

/// The right to one session, with the session if there was one.
pub(super) struct Lease<'m> {
    module: &'m Module,
    pool: PoolId,
    session: Option<KeySession>,
}

impl Module {
    /// The library of this path, loaded and initialised unless it is already.
    pub(super) fn at(path: &Path) -> Result<Arc<Self>, TokenError> {
        let unusable = |source| TokenError::Module { module: path.to_owned(), source };
        let mut loaded = lock(&LOADED);
        if let Some(module) = loaded.get(path) {
            return Ok(module.clone());
        }
        let context = Pkcs11::new(path).map_err(unusable)?;
        initialize(&context).map_err(unusable)?;
        let module =
            Arc::new(Module { context, state: Mutex::default(), changed: Condvar::new(), refused: Mutex::default() });
        loaded.insert(path.to_owned(), module.clone());
        Ok(module)
    }

    /// Lets every PIN be tried again, of all libraries.
    pub(super) fn forget_refused_pins() {
        let modules: Vec<Arc<Module>> = lock(&LOADED).values().cloned().collect();
        modules.iter().for_each(|module| lock(&module.refused).clear());
    }

    pub(super) fn add_pool(&self, limit: usize) -> PoolId {
        let mut state = lock(&self.state);
        state.last_pool += 1;
        let id = PoolId(state.last_pool);
        state.pools.insert(id, Pool { idle: Vec::new(), lent: 0, limit });
        id
    }

    pub(super) fn remove_pool(&self, id: PoolId) {
        let mut state = lock(&self.state);
        while state.is_restarting {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        // As long as its sessions are being closed they are in use.
        let removed = state.pools.remove(&id);
        state.in_use += 1;
        drop(state);
        drop(removed);
        lock(&self.state).in_use -= 1;
        self.changed.notify_all();
    }

    /// Waits for a session of a pool, or for the right to open one.
    pub(super) fn lease(&self, id: PoolId, place: &Place) -> Result<Lease<'_>, TokenError> {
        let deadline = Instant::now() + LONGEST_WAIT;
        let mut guard = lock(&self.state);
        loop {
            let state = &mut *guard;
            let pool = state.pools.get_mut(&id).filter(|pool| pool.lent < pool.limit && !state.is_restarting);
            if let Some(pool) = pool {
                pool.lent += 1;
                state.in_use += 1;
                return Ok(Lease { module: self, pool: id, session: pool.idle.pop() });
            }
            guard = match self.wait(guard, deadline) {
                Some(guard) => guard,
                None => return Err(TokenError::Busy { token: place.token.clone(), waited: LONGEST_WAIT }),
            };
        }
    }

    /// A new session. Only who holds a lease may ask for one.
    pub(super) fn open(&self, place: &Place, pin: &Zeroizing<String>) -> Result<KeySession, TokenError> {
        KeySession::open(&self.context, place, pin, &mut lock(&self.refused))
    }

    pub(super) fn close_idle(&self, id: PoolId) {
        let idle = lock(&self.state).pools.get_mut(&id).map(|pool| std::mem::take(&mut pool.idle));
        drop(idle);
    }

    /// None when the deadline has passed.
    fn wait<'g>(&self, guard: MutexGuard<'g, State>, deadline: Instant) -> Option<MutexGuard<'g, State>> {
        let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        Some(self.changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Ends all sessions and the library, and starts it; the caller made sure that none is in use.
    fn restart(&self, idle: Vec<KeySession>) {
        drop(idle);
        // A library that lost its device may not even end properly; whether it starts is what counts.
        if let Err(error) = self.context.clone().finalize() {
            warn!(%error, "the PKCS#11 library did not end properly");
        }
        if let Err(error) = initialize(&self.context) {
            warn!(%error, "the PKCS#11 library does not start");
        }
    }
}

impl Lease<'_> {
    pub(super) fn session(&self) -> Option<&KeySession> {
        self.session.as_ref()
    }

    pub(super) fn close(&mut self) {
        self.session = None;
    }

    /// Gives a session back with the lease, for the next one.
    pub(super) fn keep(&mut self, session: KeySession) {
        self.session = Some(session);
    }

    /// Starts the library anew, or waits for somebody who does; whether it is worth trying again.
    pub(super) fn restart_module(&mut self) -> bool {
        self.close();
        let module = self.module;
        let deadline = Instant::now() + LONGEST_WAIT;
        let mut state = lock(&module.state);
        if state.is_restarting {
            state.in_use -= 1;
            // Who restarts waits until nothing is in use.
            module.changed.notify_all();
            while state.is_restarting {
                state = match module.wait(state, deadline) {
                    Some(state) => state,
                    None => {
                        lock(&module.state).in_use += 1;
                        return false;
                    }
                };
            }
            state.in_use += 1;
            return true;
        }
        if state.last_restart.is_some_and(|last| last.elapsed() < RESTART_PAUSE) {
            return false;
        }
        state.is_restarting = true;
        while state.in_use > 1 {
            state = match module.wait(state, deadline) {
                Some(state) => state,
                None => {
                    let mut state = lock(&module.state);
                    state.is_restarting = false;
                    module.changed.notify_all();
                    return false;
                }
            };
        }
        let idle = state.pools.values_mut().flat_map(|pool| std::mem::take(&mut pool.idle)).collect();
        // Nobody gets a session meanwhile, and nobody is kept from finding out that he must wait.
        drop(state);
        module.restart(idle);
        let mut state = lock(&module.state);
        state.last_restart = Some(Instant::now());
        state.is_restarting = false;
        module.changed.notify_all();
        true
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let session = self.session.take();
        let mut state = lock(&self.module.state);
        let unwanted = match state.pools.get_mut(&self.pool) {
            None => session,
            Some(pool) => {
                pool.lent -= 1;
                pool.idle.extend(session);
                None
            }
        };
        if unwanted.is_some() {
            // Closed before it counts as given back: a restart must not meet it.
            drop(state);
            drop(unwanted);
            state = lock(&self.module.state);
        }
        state.in_use -= 1;
        self.module.changed.notify_all();
    }
}

fn initialize(context: &Pkcs11) -> Result<(), Error> {
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        // Something else in this process uses it too.
        Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        result => result,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
