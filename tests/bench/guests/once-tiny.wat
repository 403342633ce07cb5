;; The same as `once`, as a minimal preview 1 module: no allocator, no start-up code, one page of memory. Running it
;; costs little beyond the host.
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))

  ;; 0: pointer and 4: length of the one buffer to read into or write from; 8: number of bytes moved; 64: the line.
  (memory (export "memory") 1)

  (func (export "_start")
    (local $length i32)
    (loop $reading
      (i32.store (i32.const 0) (i32.add (i32.const 64) (local.get $length)))
      (i32.store (i32.const 4) (i32.sub (i32.const 65000) (local.get $length)))
      (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))
        (then (call $proc_exit (i32.const 1))))
      (local.set $length (i32.add (local.get $length) (i32.load (i32.const 8))))
      ;; The end of input, or a line that does not fit, also ends the reading.
      (br_if $reading
        (i32.and
          (i32.and (i32.ne (i32.load (i32.const 8)) (i32.const 0)) (i32.lt_u (local.get $length) (i32.const 65000)))
          (i32.ne (i32.load8_u (i32.add (i32.const 63) (local.get $length))) (i32.const 10)))))

    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (local.get $length))
    (loop $writing
      (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
        (then (call $proc_exit (i32.const 1))))
      (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.load (i32.const 8))))
      (i32.store (i32.const 4) (i32.sub (i32.load (i32.const 4)) (i32.load (i32.const 8))))
      (br_if $writing (i32.load (i32.const 4))))))
