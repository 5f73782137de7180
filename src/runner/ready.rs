//! The queue between those who wake jobs and the threads that take them further.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

/// First in, first out. At most one thread at a time is being woken, and it wakes the next when there is more to do: a thread that is
/// awake anyway takes most of what comes, and few calls go to the operating system.
pub(crate) struct Ready<T> {
    state: Mutex<State<T>>,
    arrived: Condvar,
}

struct State<T> {
    queue: VecDeque<T>,
    sleeping: usize,
    is_waking: bool,
    is_closed: bool,
}

impl<T> Default for Ready<T> {
    fn default() -> Self {
        let state = State { queue: VecDeque::new(), sleeping: 0, is_waking: false, is_closed: false };
        Self { state: Mutex::new(state), arrived: Condvar::new() }
    }
}

impl<T> State<T> {
    /// True when a thread has to be woken; to be done by the caller, after the lock is given back.
    fn wakes(&mut self) -> bool {
        let wakes = self.sleeping > 0 && !self.is_waking && !self.queue.is_empty();
        self.is_waking |= wakes;
        wakes
    }
}

impl<T> Ready<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts one at the end; gives it back when the queue is closed.
    pub(crate) fn push(&self, value: T) -> Option<T> {
        let mut state = self.state();
        if state.is_closed {
            return Some(value);
        }
        state.queue.push_back(value);
        let wakes = state.wakes();
        drop(state);
        if wakes {
            self.arrived.notify_one();
        }
        None
    }

    /// Takes the first, waiting for one; none when the queue is closed and empty.
    pub(crate) fn pop(&self) -> Option<T> {
        let mut state = self.state();
        let mut is_patient = false;
        loop {
            if let Some(value) = state.queue.pop_front() {
                let wakes = state.wakes();
                drop(state);
                if wakes {
                    self.arrived.notify_one();
                }
                return Some(value);
            }
            if state.is_closed {
                return None;
            }
            if !std::mem::replace(&mut is_patient, true) {
                // Who fills the queue may want this core: then there is something to do without having slept.
                drop(state);
                thread::yield_now();
                state = self.state();
                continue;
            }
            state.sleeping += 1;
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.sleeping -= 1;
            state.is_waking = false;
        }
    }

    /// Takes no more. What is in it is still given out.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
        self.arrived.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state().is_closed
    }
}
