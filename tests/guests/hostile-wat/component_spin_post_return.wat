;; Returns its result, and spins in its post-return function.
(component
  (core module $module
    (func (export "run") (result i32) (i32.const 0))
    (func (export "clean_up") (param i32) (loop $for_ever (br $for_ever))))
  (core instance $instance (instantiate $module))
  (func $run (result (result)) (canon lift (core func $instance "run") (post-return (core func $instance "clean_up"))))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))
