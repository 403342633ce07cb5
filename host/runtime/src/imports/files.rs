//! The file functions of WASI, for each kind of guest. Each moves to the threads for files before it works, and counts
//! open files and buffers; see [`files`](crate::files).

pub mod component2;
pub mod component3;
pub mod preview1;
mod stream2;
mod stream3;

use crate::{
    files::{New, Opened, Worker, check_path, names::Place, open::Wanted, open_device},
    state::State,
};
use rustix::io::Errno;
use std::{io, sync::Arc};
use wasmtime::component::Resource;
use wasmtime_wasi::filesystem::{self, Descriptor, Dir, WasiFilesystemView as _};

impl State {
    fn opened(&self, descriptor: &Resource<Descriptor>) -> Arc<Opened> {
        self.opened_at(descriptor.rep())
    }

    fn opened_at(&self, place: u32) -> Arc<Opened> {
        self.files.opened.get(&place).cloned().unwrap_or_default()
    }

    fn forget(&mut self, place: u32) {
        self.files.opened.remove(&place);
    }

    /// Drops the descriptor of a component, on the threads for files.
    async fn close_descriptor(&mut self, place: u32) -> wasmtime::Result<()> {
        let closed = self.filesystem().table.delete(Resource::<Descriptor>::new_own(place))?;
        let opened = self.opened_at(place);
        self.forget(place);
        self.worker().file_call(async { drop((closed, opened)) }).await;
        Ok(())
    }

    fn descriptor(&mut self, descriptor: &Resource<Descriptor>) -> wasmtime::Result<Descriptor> {
        Ok(self.filesystem().table.get(descriptor)?.clone())
    }

    fn file(&mut self, descriptor: &Resource<Descriptor>) -> wasmtime::Result<io::Result<filesystem::File>> {
        Ok(match self.descriptor(descriptor)? {
            Descriptor::File(file) => Ok(file),
            Descriptor::Dir(_) => Err(Errno::BADF.into()),
        })
    }

    fn dir(&mut self, descriptor: &Resource<Descriptor>) -> wasmtime::Result<io::Result<Dir>> {
        Ok(match self.descriptor(descriptor)? {
            Descriptor::Dir(dir) => Ok(dir),
            Descriptor::File(_) => Err(Errno::NOTDIR.into()),
        })
    }

    /// Returns the place of a directory within the private one.
    fn place(&mut self, descriptor: &Resource<Descriptor>) -> Place {
        let scratch = self.opened(descriptor).scratch.clone()?;
        match self.descriptor(descriptor) {
            Ok(Descriptor::Dir(dir)) => Some((scratch, dir.dir)),
            _ => None,
        }
    }

    /// Opens a file or a directory below `dir`. Blocks.
    fn open(&mut self, dir: &Resource<Descriptor>, path: &str, wanted: Wanted) -> wasmtime::Result<io::Result<New>> {
        let (place, is_dev) = (self.place(dir), self.opened(dir).is_dev);
        let dir = self.dir(dir)?;
        if is_dev {
            let device = check_path(path.len()).and_then(|()| self.files.count());
            match device.map(|counted| open_device(path, wanted, counted)) {
                Ok(None) => {}
                Ok(Some(opened)) => return Ok(opened),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(dir.and_then(|dir| self.files.open(&dir, place, path, wanted)))
    }

    /// Returns the guest, to call on the threads for files.
    fn worker(&self) -> Worker {
        Worker::of(&self.control, self.guest)
    }
}
