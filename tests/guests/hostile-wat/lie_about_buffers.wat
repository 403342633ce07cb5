;; Passes the host a buffer outside its memory, or one that is larger than its memory, depending on the number of
;; parameters. Exits with 0 if the host accepts it, else with the errno of the host.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (call $args_sizes (i32.const 64) (i32.const 68)))
    ;; One buffer, which begins in the memory and is 4 GiB long.
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const -1))
    (block $poll (block $random (block $args (block $read (block $many (block $outside (block $long
      (br_table $long $long $outside $many $read $args $random $poll (i32.load (i32.const 64))))
      (call $exit (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
      (call $exit (call $write (i32.const 1) (i32.const 0xffff0) (i32.const 1) (i32.const 8))))
      (call $exit (call $write (i32.const 1) (i32.const 0) (i32.const 0x10000000) (i32.const 8))))
      (call $exit (call $read (i32.const 0) (i32.const 0) (i32.const 0x10000000) (i32.const 8))))
      (call $exit (call $args (i32.const 0xfffff0) (i32.const 0xfffff0))))
      (call $exit (call $random (i32.const 0) (i32.const -1))))
    (call $exit (call $poll (i32.const 0) (i32.const 0) (i32.const 0x7ffffff) (i32.const 8)))))
