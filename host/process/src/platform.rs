//! The door to what only Linux has: a priority for each thread.

use std::io;

/// Lowers the priority of this thread, and of no other.
#[cfg(target_os = "linux")]
pub fn lower_priority_of_thread(nice: i32) -> io::Result<()> {
    // A "process" of this call is a thread on Linux.
    Ok(rustix::process::setpriority_process(None, nice)?)
}

/// Does nothing: elsewhere the same call lowers the priority of the whole server, with the threads that serve sockets.
#[cfg(not(target_os = "linux"))]
pub fn lower_priority_of_thread(_: i32) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::getpriority_process;

    #[test]
    fn lower_priority_stays_within_its_thread() {
        let before = getpriority_process(None).unwrap();
        let lowered = std::thread::spawn(move || {
            lower_priority_of_thread(before + 1).unwrap();
            getpriority_process(None).unwrap()
        });
        let expected = if cfg!(target_os = "linux") { before + 1 } else { before };
        assert_eq!(lowered.join().unwrap(), expected);
        assert_eq!(getpriority_process(None).unwrap(), before);
    }
}
