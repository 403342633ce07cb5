;; Returns a result that is neither ok nor err.
(component
  (core module $module (func (export "run") (result i32) (i32.const 7)))
  (core instance $instance (instantiate $module))
  (func $run (result (result)) (canon lift (core func $instance "run")))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))
