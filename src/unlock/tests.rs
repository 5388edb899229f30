//! The machine on scripted parts: where each failure leaves it, what is wiped when, what is remembered when.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

use smol::future::block_on;

use super::*;
use crate::error::{Code, Explain};
use crate::net::Clock;

/// A failure with a given code.
#[derive(Debug)]
struct Fails(Code);

impl fmt::Display for Fails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scripted {}", self.0)
    }
}
impl std::error::Error for Fails {}
impl Explain for Fails {
    fn code(&self) -> Code {
        self.0
    }
    fn next_step(&self) -> String {
        "try again".into()
    }
}

/// Parts that note each call and fail where the script says so.
#[derive(Default)]
struct Script {
    calls: RefCell<Vec<&'static str>>,
    fail: Cell<Option<(&'static str, Code)>>,
    remembered: Cell<bool>,
    /// What is remembered is a switch that was cut.
    switching: Cell<bool>,
    /// The engine has everything already.
    held: Cell<bool>,
    keys_alive: Rc<Cell<usize>>,
}

impl Script {
    fn failing(step: &'static str, code: Code) -> Rc<Self> {
        let script = Self::default();
        script.fail.set(Some((step, code)));
        Rc::new(script)
    }

    fn call(&self, step: &'static str) -> Result<(), Cause> {
        self.calls.borrow_mut().push(step);
        match self.fail.get() {
            Some((at, code)) if at == step => Err(Fails(code).into()),
            _ => Ok(()),
        }
    }
}

/// A key that is counted while it lives.
struct Counted(Rc<Cell<usize>>);

impl Counted {
    fn new(alive: &Rc<Cell<usize>>) -> Self {
        alive.set(alive.get() + 1);
        Self(Rc::clone(alive))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Cloud for Script {
    type Ticket = ();
    type Session = ();
    type Key = Counted;
    async fn log_in(&self, (): &()) -> Result<(), Cause> {
        self.call("log_in")
    }
    async fn fetch_key(&self, (): &()) -> Result<Counted, Cause> {
        self.call("fetch_key").map(|()| Counted::new(&self.keys_alive))
    }
}

impl Archives for Script {
    type Key = Counted;
    type Archive = Counted;
    async fn open(&self, _key: &Counted, _meter: &Meter) -> Result<Counted, Cause> {
        self.call("open").map(|()| Counted::new(&self.keys_alive))
    }
}

impl Engine for Script {
    type Archive = Counted;
    type Suite = &'static str;
    async fn compare(&self, _archive: &Counted, _meter: &Meter) -> Result<Standing<&'static str>, Cause> {
        self.call("compare")?;
        Ok(if self.held.get() { Standing::Held("suite") } else { Standing::Missing("suite") })
    }
    async fn load(&self, _archive: &Counted, suite: &'static str, _meter: &Meter) -> Result<&'static str, Cause> {
        self.call("load").map(|()| suite)
    }
    async fn switch(&self, _suite: &&'static str) -> Result<(), Cause> {
        self.call("switch")
    }
    async fn confirm(&self, _suite: &&'static str, _meter: &Meter) -> Result<(), Cause> {
        self.call("confirm")
    }
}

impl Ledger for Script {
    type Suite = &'static str;
    async fn recall(&self) -> Result<Option<Recalled<&'static str>>, Cause> {
        self.call("recall")?;
        Ok(self
            .remembered
            .get()
            .then(|| if self.switching.get() { Recalled::Switching("suite") } else { Recalled::Ready("suite") }))
    }
    async fn begin(&self, _suite: &&'static str) -> Result<(), Cause> {
        self.call("begin").map(|()| self.remembered.set(false))
    }
    async fn switching(&self, _suite: &&'static str) -> Result<(), Cause> {
        self.call("switching")?;
        self.switching.set(true);
        self.remembered.set(true);
        Ok(())
    }
    async fn remember(&self, _suite: &&'static str) -> Result<(), Cause> {
        self.call("remember")?;
        self.switching.set(false);
        self.remembered.set(true);
        Ok(())
    }
}

impl Parts for Script {
    type Cloud = Self;
    type Archives = Self;
    type Engine = Self;
    type Ledger = Self;
    fn cloud(&self) -> &Self {
        self
    }
    fn archives(&self) -> &Self {
        self
    }
    fn engine(&self) -> &Self {
        self
    }
    fn ledger(&self) -> &Self {
        self
    }
}

fn machine(script: &Rc<Script>) -> Unlock<Script, Idle> {
    Unlock::new(Rc::clone(script), Rc::new(Meter::new(Clock::manual())))
}

async fn opened(script: &Rc<Script>) -> Unlock<Script, Opened<Script>> {
    let machine = machine(script).authenticate(&()).await.expect("scripted to succeed");
    let machine = machine.fetch_key().await.expect("scripted to succeed");
    machine.open().await.expect("scripted to succeed")
}

#[test]
fn the_way_through_takes_every_step_once_and_in_order() {
    let script = Rc::new(Script::default());
    block_on(async {
        let ready = opened(&script).await.load().await.expect("loads").confirm().await.expect("confirms");
        assert_eq!(ready.state(), State::Ready);
        assert_eq!(*ready.suite(), "suite");
    });
    assert_eq!(
        *script.calls.borrow(),
        ["log_in", "fetch_key", "open", "compare", "begin", "load", "switching", "switch", "confirm", "remember"]
    );
    assert!(script.remembered.get() && !script.switching.get());
}

#[test]
fn nothing_is_forgotten_or_done_where_nothing_is_missing() {
    let script = Rc::new(Script::default());
    script.held.set(true);
    block_on(async { opened(&script).await.load().await.expect("held").confirm().await.expect("confirms") });
    assert_eq!(*script.calls.borrow(), ["log_in", "fetch_key", "open", "compare", "remember"]);
}

#[test]
fn a_switch_that_was_cut_is_gone_on_with_and_needs_no_cloud_and_no_archive() {
    let script = Script::failing("switch", Code::EngineLost);
    block_on(async {
        opened(&script).await.load().await.expect("loads").confirm().await.expect_err("cut");
        script.calls.borrow_mut().clear();
        script.fail.set(None);
        machine(&script).already_ready().await.map_err(|(_, why)| why).expect("ready");
        assert_eq!(*script.calls.borrow(), ["recall", "switch", "confirm", "remember"]);
        machine(&script).already_ready().await.map_err(|(_, why)| why).expect("ready");
    });
    assert_eq!(script.calls.borrow()[4..], ["recall", "confirm"], "the switch is over");
}

#[test]
fn leaving_a_stage_drops_the_key_it_held() {
    let script = Rc::new(Script::default());
    block_on(async {
        let held = machine(&script).authenticate(&()).await.expect("ok").fetch_key().await.expect("ok");
        assert_eq!(script.keys_alive.get(), 1, "the bare key");
        let opened = held.open().await.expect("ok");
        assert_eq!(script.keys_alive.get(), 1, "the bare key is gone, the archive's lives");
        let loaded = opened.load().await.expect("ok");
        assert_eq!(script.keys_alive.get(), 0, "the archive is closed");
        drop(loaded.lock());

        let held = machine(&script).authenticate(&()).await.expect("ok").fetch_key().await.expect("ok");
        let idle = held.lock();
        assert_eq!(script.keys_alive.get(), 0, "lock wipes");
        assert_eq!(idle.state(), State::Authenticating, "the next work is to log in");
    });
}

#[test]
fn a_failed_step_leaves_the_machine_where_it_was_and_it_can_go_on() {
    let script = Script::failing("load", Code::EngineLost);
    block_on(async {
        let stuck = opened(&script).await.load().await.expect_err("scripted to fail");
        assert_eq!(stuck.cause.code(), Code::EngineLost);
        assert_eq!(remedy(stuck.cause.code()), Remedy::Retry);
        assert_eq!(script.keys_alive.get(), 1, "the archive is still open");
        script.fail.set(None);
        stuck.machine.load().await.expect("goes on from the same stage").confirm().await.expect("confirms");
    });
    let calls = script.calls.borrow();
    assert_eq!(calls.iter().filter(|call| **call == "log_in").count(), 1, "no second log-in");
}

#[test]
fn nothing_is_remembered_of_a_load_that_was_not_confirmed() {
    for step in ["load", "confirm"] {
        let script = Script::failing(step, Code::EngineMismatch);
        script.remembered.set(true);
        block_on(async {
            if let Ok(loaded) = opened(&script).await.load().await {
                loaded.confirm().await.expect_err("scripted to fail");
            }
        });
        assert!(!script.remembered.get() || script.switching.get(), "{step}: the old memory is gone");
    }
}

#[test]
fn a_load_does_not_begin_while_the_old_memory_stands() {
    let script = Script::failing("begin", Code::StateUnavailable);
    block_on(async {
        opened(&script).await.load().await.expect_err("scripted to fail");
    });
    assert!(!script.calls.borrow().contains(&"load"));
}

#[test]
fn a_state_that_cannot_be_written_does_not_undo_what_is_true() {
    let script = Script::failing("remember", Code::StateUnavailable);
    block_on(async {
        let ready = opened(&script).await.load().await.expect("loads").confirm().await.expect("ready all the same");
        assert_eq!(ready.state(), State::Ready);
    });
}

#[test]
fn what_is_remembered_and_confirmed_needs_no_cloud_and_no_archive() {
    let script = Rc::new(Script::default());
    script.remembered.set(true);
    block_on(async { machine(&script).already_ready().await.map_err(|(_, why)| why).expect("ready") });
    assert_eq!(*script.calls.borrow(), ["recall", "confirm"]);
}

#[test]
fn why_a_board_is_not_ready_is_told() {
    let why = |script: &Rc<Script>| {
        block_on(async {
            machine(script).already_ready().await.map(|_| ()).map_err(|(_, why)| why).expect_err("not ready")
        })
    };
    assert!(matches!(why(&Rc::new(Script::default())), NotReady::NotRemembered));
    let script = Script::failing("confirm", Code::EngineUnreachable);
    script.remembered.set(true);
    assert!(matches!(why(&script), NotReady::NotConfirmed(cause) if cause.code() == Code::EngineUnreachable));
    assert!(matches!(why(&Script::failing("recall", Code::StateUnavailable)), NotReady::Unreadable(_)));
}
