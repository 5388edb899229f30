//! Every edge of the machine, legal or not, as a documentation test: a legal one compiles, an illegal one does not, and
//! each illegal test differs from its passing twin in the one line that names the step.
//!
//! `edges!` writes the tests of one stage: first its own steps (each compiles), then the steps of other stages (none
//! does). The twin of an illegal edge is the legal edge of the same stage; [`Ready`](super::Ready), which leads nowhere,
//! has its accessor as twin.

macro_rules! edge {
    ($fence:literal, $stage:literal, $step:literal) => {
        concat!(
            "```",
            $fence,
            "\n",
            "use azaion_loader::unlock::*;\n",
            "async fn edge<P: Parts>(machine: Unlock<P, ",
            $stage,
            ">, ticket: &Ticket<P>) {\n",
            "    let _ = machine.",
            $step,
            ";\n",
            "    let _ = ticket;\n",
            "}\n",
            "```\n"
        )
    };
}

macro_rules! edges {
    ($name:ident: $stage:literal, legal: [$($legal:literal),*], illegal: [$($illegal:literal),*]) => {
        $(#[doc = edge!("", $stage, $legal)])*
        $(#[doc = edge!("compile_fail", $stage, $illegal)])*
        pub struct $name;
    };
}

edges!(FromIdle: "Idle",
    legal: ["authenticate(ticket).await", "already_ready().await", "lock()"],
    illegal: ["fetch_key().await", "open().await", "load().await", "confirm().await", "suite()"]);
edges!(FromAuthenticated: "Authenticated<P>",
    legal: ["fetch_key().await", "lock()"],
    illegal: ["authenticate(ticket).await", "already_ready().await", "open().await", "load().await", "confirm().await",
              "suite()"]);
edges!(FromKeyHeld: "KeyHeld<P>",
    legal: ["open().await", "lock()"],
    illegal: ["authenticate(ticket).await", "already_ready().await", "fetch_key().await", "load().await",
              "confirm().await", "suite()"]);
edges!(FromOpened: "Opened<P>",
    legal: ["load().await", "lock()"],
    illegal: ["authenticate(ticket).await", "already_ready().await", "fetch_key().await", "open().await",
              "confirm().await", "suite()"]);
edges!(FromLoaded: "Loaded<P>",
    legal: ["confirm().await", "lock()"],
    illegal: ["authenticate(ticket).await", "already_ready().await", "fetch_key().await", "open().await",
              "load().await", "suite()"]);
edges!(FromReady: "Ready<P>",
    legal: ["suite()", "lock()"],
    illegal: ["authenticate(ticket).await", "already_ready().await", "fetch_key().await", "open().await",
              "load().await", "confirm().await"]);

/// A step consumes the machine: the old stage cannot be used again.
///
/// ```
/// use azaion_loader::unlock::*;
/// async fn twice<P: Parts>(machine: Unlock<P, Idle>, ticket: &Ticket<P>) {
///     let first = machine.authenticate(ticket).await;
///     drop((first, ()));
/// }
/// ```
/// ```compile_fail
/// use azaion_loader::unlock::*;
/// async fn twice<P: Parts>(machine: Unlock<P, Idle>, ticket: &Ticket<P>) {
///     let first = machine.authenticate(ticket).await;
///     drop((first, machine));
/// }
/// ```
pub struct Consumed;

/// A stage cannot be made outside: there is no way in but the steps.
///
/// ```
/// use azaion_loader::unlock::*;
/// fn forge<P: Parts>(machine: Unlock<P, Ready<P>>) -> Unlock<P, Idle> {
///     machine.lock()
/// }
/// ```
/// ```compile_fail
/// use azaion_loader::unlock::*;
/// fn forge<P: Parts>(machine: Unlock<P, Ready<P>>) -> Unlock<P, Idle> {
///     Unlock { ctx: machine.ctx, stage: Idle }
/// }
/// ```
/// A stage of one's own is refused too:
/// ```compile_fail
/// struct Mine;
/// impl azaion_loader::unlock::Stage for Mine {
///     const NAME: &'static str = "mine";
///     const WORK: azaion_loader::unlock::State = azaion_loader::unlock::State::Ready;
/// }
/// ```
pub struct Sealed;
