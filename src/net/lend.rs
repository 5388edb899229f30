//! Lends single system calls to helper threads: flash, name look-up, whatever has no non-blocking form.
//!
//! At most [`LENT_CALLS`] threads, started when needed and ended when idle. No logic runs there: a closure is one system
//! call, or a fixed short row of them that belong together (write, flush, rename). It must never touch the agent's
//! state. smol's own pool is not used because it bounds neither: it starts a third thread while one of two is on its
//! way back, and keeps one for ever (measured: 5 threads at work, 3 at rest).

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use smol::channel;

use crate::limits::{LENT_CALLS, LENT_IDLE};

type Call = Box<dyn FnOnce() + Send>;

/// The threads, and what waits for one.
struct Helpers {
    state: Mutex<State>,
    rung: Condvar,
}

struct State {
    /// Each has a future that waits for it, so what bounds those bounds this.
    waiting: VecDeque<Call>,
    threads: usize,
    idle: usize,
}

static HELPERS: Helpers =
    Helpers { state: Mutex::new(State { waiting: VecDeque::new(), threads: 0, idle: 0 }), rung: Condvar::new() };

/// Runs `call` on a helper thread and waits for it without holding up the loop. A call whose future is dropped runs to
/// its end all the same.
///
/// # Panics
/// When `call` does.
pub async fn lend<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    let (give, take) = channel::bounded(1);
    HELPERS.hand(Box::new(move || {
        // Nobody may wait for it any more; the call was made all the same.
        let _unheard = give.try_send(call());
    }));
    take.recv().await.expect("a lent call that does not panic answers")
}

impl Helpers {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand(&'static self, call: Call) {
        let mut state = self.lock();
        state.waiting.push_back(call);
        if state.waiting.len() <= state.idle {
            self.rung.notify_one();
        } else if state.threads < LENT_CALLS {
            match std::thread::Builder::new().name("lent".into()).spawn(|| self.serve()) {
                Ok(_ends_by_itself) => state.threads += 1,
                // The kernel gives no thread, and none runs: better slow than never.
                Err(_) if state.threads == 0 => {
                    let call = state.waiting.pop_back();
                    drop(state);
                    if let Some(call) = call {
                        call();
                    }
                }
                // The one that runs takes this call next.
                Err(_) => {}
            }
        }
    }

    /// One thread, until nothing was to do for [`LENT_IDLE`].
    fn serve(&self) {
        let mut state = self.lock();
        loop {
            if let Some(call) = state.waiting.pop_front() {
                drop(state);
                // A call that panics drops its end of the channel, and so is told to who waits for it.
                let _told_there = catch_unwind(AssertUnwindSafe(call));
                state = self.lock();
                continue;
            }
            state.idle += 1;
            let (woken, waited) = self.rung.wait_timeout(state, LENT_IDLE).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if waited.timed_out() && state.waiting.is_empty() {
                // Under the same lock as the look: whoever hands in next sees one thread fewer.
                state.threads -= 1;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use smol::LocalExecutor;

    use super::*;
    use crate::net::turn;

    #[test]
    fn no_more_calls_than_threads_run_at_once() {
        let running = Arc::new(AtomicUsize::new(0));
        let highest = Arc::new(AtomicUsize::new(0));
        let executor = LocalExecutor::new();
        let tasks: Vec<_> = (0..200)
            .map(|_| {
                let (running, highest) = (Arc::clone(&running), Arc::clone(&highest));
                executor.spawn(lend(move || {
                    let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                    highest.fetch_max(now, Ordering::SeqCst);
                    for _ in 0..200 {
                        std::thread::yield_now();
                    }
                    running.fetch_sub(1, Ordering::SeqCst);
                }))
            })
            .collect();
        turn::block_on(&executor, async {
            for task in tasks {
                task.await;
            }
        });
        // Other tests of this process share the threads: there may be fewer for these calls, never more.
        assert!((1..=LENT_CALLS).contains(&highest.load(Ordering::SeqCst)));
        assert!(HELPERS.lock().threads <= LENT_CALLS);
    }

    #[test]
    fn a_call_that_panics_costs_no_thread() {
        for _ in 0..2 * LENT_CALLS {
            let fails = catch_unwind(|| smol::block_on(lend(|| panic!("as it was told"))));
            assert!(fails.is_err());
        }
        assert_eq!(smol::block_on(lend(|| 7)), 7);
    }

    #[test]
    fn what_is_dropped_is_done_all_the_same() {
        let (go, told) = std::sync::mpsc::channel();
        let (done, seen) = std::sync::mpsc::channel();
        let mut call = Box::pin(lend(move || {
            told.recv().expect("it is told after the drop");
            done.send(()).expect("somebody waits");
        }));
        smol::block_on(async {
            assert!(smol::future::poll_once(&mut call).await.is_none());
        });
        drop(call);
        go.send(()).expect("the call waits");
        seen.recv().expect("it was handed over");
    }
}
