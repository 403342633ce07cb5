//! `distillery:call/commands`: granted commands, for every kind of guest. `wit/call.wit` defines their meaning.

pub mod component2;
pub mod component3;
pub mod preview1;
mod values;

use crate::{commands::Commands, state::State};
use distillery_core::control::Control;
use std::sync::Arc;

fn commands(state: &State) -> (&Commands, Arc<Control>) {
    (&state.commands, state.control.clone())
}
