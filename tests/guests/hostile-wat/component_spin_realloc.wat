;; Asks for its arguments, and spins when the host asks for memory for them.
(component
  (import "wasi:cli/environment@0.2.0" (instance $environment
    (export "get-arguments" (func (result (list string))))))
  (core module $memory
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (loop $for_ever (br $for_ever))
      (unreachable)))
  (core instance $memory (instantiate $memory))
  (core func $arguments (canon lower (func $environment "get-arguments")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core module $module
    (import "host" "arguments" (func $arguments (param i32)))
    (func (export "run") (result i32)
      (call $arguments (i32.const 0))
      (i32.const 0)))
  (core instance $instance (instantiate $module
    (with "host" (instance (export "arguments" (func $arguments))))))
  (func $run (result (result)) (canon lift (core func $instance "run")))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))
