//! The loop and its turns: work between two looks at the sockets is bounded for all tasks together.
//!
//! [`block_on`] runs a [`LocalExecutor`] in turns. A turn polls a bounded number of tasks, then the sockets are looked
//! at again. Whoever does cipher or hash work asks for it with [`spend`] first; when the turn's share is used up, the
//! task waits for the next turn. Futures that call [`spend`] must run under [`block_on`], nowhere else.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::time::Instant;

use smol::LocalExecutor;
use smol::future::{or, yield_now};

use crate::limits::CRYPTO_PER_TURN_BYTES;
use crate::metrics;

/// Tasks polled in one turn before the sockets are looked at again.
const POLLS_PER_TURN: usize = 16;

thread_local! {
    /// Bytes of crypto left in this turn.
    static LEFT: Cell<usize> = const { Cell::new(CRYPTO_PER_TURN_BYTES) };
}

/// Runs `main` and all tasks of `executor` on this thread until `main` is done.
pub fn block_on<T>(executor: &LocalExecutor<'_>, main: impl Future<Output = T>) -> T {
    let turns = async {
        loop {
            let mut polled = 0;
            while polled < POLLS_PER_TURN && executor.try_tick() {
                polled += 1;
            }
            if polled == 0 {
                executor.tick().await;
            } else {
                yield_now().await;
            }
        }
    };
    let mut both = pin!(or(main, turns));
    // Each poll from outside is a turn: between two of them smol looks at the sockets.
    smol::block_on(poll_fn(|cx| {
        LEFT.set(CRYPTO_PER_TURN_BYTES);
        let began = Instant::now();
        let polled = both.as_mut().poll(cx);
        metrics::TURNS.observe(began.elapsed());
        polled
    }))
}

/// Waits until the turn has room for `bytes` of crypto and takes them. A larger piece takes a whole turn.
pub async fn spend(bytes: usize) {
    loop {
        let left = LEFT.get();
        if bytes <= left || left == CRYPTO_PER_TURN_BYTES {
            LEFT.set(left.saturating_sub(bytes));
            return;
        }
        yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn all_tasks_together_stay_within_a_turn() {
        let executor = LocalExecutor::new();
        let spent = Rc::new(Cell::new(0_usize));
        for _ in 0..4 {
            let spent = Rc::clone(&spent);
            executor
                .spawn(async move {
                    for _ in 0..100 {
                        spend(CRYPTO_PER_TURN_BYTES / 2).await;
                        spent.set(spent.get() + CRYPTO_PER_TURN_BYTES / 2);
                    }
                })
                .detach();
        }
        let mut highest = 0;
        block_on(&executor, async {
            while spent.get() < 4 * 100 * CRYPTO_PER_TURN_BYTES / 2 {
                let before = spent.get();
                yield_now().await;
                highest = highest.max(spent.get() - before);
            }
        });
        assert_eq!(highest, CRYPTO_PER_TURN_BYTES);
    }

    #[test]
    fn the_main_future_gets_its_turns_when_no_task_runs() {
        block_on(&LocalExecutor::new(), async {
            for _ in 0..10 {
                spend(CRYPTO_PER_TURN_BYTES / 2).await;
            }
        });
    }

    #[test]
    fn a_piece_larger_than_a_turn_still_gets_its_turn() {
        block_on(&LocalExecutor::new(), async {
            spend(10 * CRYPTO_PER_TURN_BYTES).await;
            spend(10 * CRYPTO_PER_TURN_BYTES).await;
        });
    }
}
