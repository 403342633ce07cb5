;; Calls the host from its post-return function.
(component
  (import "wasi:random/random@0.2.0" (instance $random (export "get-random-u64" (func (result u64)))))
  (core func $random (canon lower (func $random "get-random-u64")))
  (core module $module
    (import "host" "random" (func $random (result i64)))
    (func (export "run") (result i32) (i32.const 0))
    (func (export "clean_up") (param i32) (drop (call $random))))
  (core instance $instance (instantiate $module (with "host" (instance (export "random" (func $random))))))
  (func $run (result (result)) (canon lift (core func $instance "run") (post-return (core func $instance "clean_up"))))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))
