;; Says that it has begun, and lists its first directory over and over.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_readdir" (func $fd_readdir (param i32 i32 i32 i64 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 16) "listing\n")
  (func (export "_start")
    (local $next i64) (local $at i32) (local $end i32)
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 8))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (loop $for_ever
      (if (call $fd_readdir (i32.const 3) (i32.const 65536) (i32.const 32768) (local.get $next) (i32.const 8))
        (then (unreachable)))
      ;; The place behind the last whole entry; from the start again behind the last of all.
      (local.set $at (i32.const 65536))
      (local.set $end (i32.add (i32.const 65536) (i32.load (i32.const 8))))
      (local.set $next (i64.const 0))
      (block $counted
        (loop $each
          (br_if $counted (i32.gt_u (i32.add (local.get $at) (i32.const 24)) (local.get $end)))
          (local.set $next (i64.load (local.get $at)))
          (local.set $at
            (i32.add (i32.add (local.get $at) (i32.const 24)) (i32.load (i32.add (local.get $at) (i32.const 16)))))
          (br $each)))
      (br $for_ever))))
