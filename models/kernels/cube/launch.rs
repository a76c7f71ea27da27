//! Launches that cost the host little.
//!
//! CubeCL's own launch describes its kernel each time: copies what the device can do, writes a name, and makes a key of
//! all that the code depends on. A token asks for the same few kernels some hundreds of times, so here each is described
//! once. CubeCL's log of compilations calls all of them `Described`, its profile by their own names.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::StorageType;
use cubecl::prelude::*;

/// A kernel that has been described.
#[derive(Clone)]
struct Described {
    id: KernelId,
    kernel: Arc<dyn CubeKernel>,
}

impl Described {
    fn new<K: CubeKernel>(kernel: K, dim: CubeDim) -> Self {
        // Hashed as text, the same in every run: CubeCL's own hash does not tell which of two options is there.
        let text = KernelId::new::<Self>().info(kernel.id().stable_format());
        let id = KernelId::new::<Self>().cube_dim(dim).info(text.stable_hash());
        Self { id, kernel: Arc::new(kernel) }
    }
}

impl KernelMetadata for Described {
    fn name(&self) -> &'static str {
        self.kernel.name()
    }

    fn id(&self) -> KernelId {
        self.id.clone()
    }

    fn address_type(&self) -> StorageType {
        self.kernel.address_type()
    }
}

impl CubeKernel for Described {
    fn define(&self) -> KernelDefinition {
        self.kernel.define()
    }
}

/// The kernels made by one function: for a device, of what their code depends on.
type Kernels<R, F> = Vec<(<R as Runtime>::Device, F, Described)>;

thread_local! {
    /// What has been described, by the types of runtime, facts and kernel. A thread has its own, so that none waits.
    static KERNELS: RefCell<HashMap<TypeId, Box<dyn Any>>> = RefCell::default();
}

/// The settings of all our kernels.
pub fn settings(dim: CubeDim) -> KernelSettings {
    KernelSettings::default().cube_dim(dim)
}

/// Launches the kernel that these facts describe, beside a tensor; for [`launch!`] to call.
///
/// # Safety
///
/// The launcher holds the arguments of the kernel that `describe` makes, in its order and of the types and sizes that
/// the facts tell; and the kernel reads and writes inside its arrays.
pub unsafe fn launch_described<R: CubeRuntime, F: Clone + PartialEq + 'static, K: CubeKernel>(
    beside: &CubeTensor<R>,
    cubes: CubeCount,
    launcher: KernelLauncher<R>,
    facts: F,
    describe: fn(F, KernelSettings, ComputeClient<R>) -> K,
) {
    let dim = launcher.settings.cube_dim;
    let kernel = KERNELS.with_borrow_mut(|kernels| {
        let kernels = kernels.entry(TypeId::of::<(R, F, K)>()).or_insert_with(|| Box::<Kernels<R, F>>::default());
        let kernels: &mut Kernels<R, F> = kernels.downcast_mut().expect("the key tells the type");
        let same = |(device, known, kernel): &(R::Device, F, Described)| {
            *device == beside.device && kernel.id.cube_dim == dim && *known == facts
        };
        if let Some((.., kernel)) = kernels.iter().find(|known| same(known)) {
            return kernel.clone();
        }
        let kernel = Described::new(describe(facts.clone(), settings(dim), beside.client.clone()), dim);
        kernels.push((beside.device.clone(), facts, kernel.clone()));
        kernel
    });
    // SAFETY: as the caller promises.
    unsafe { launcher.launch_unchecked(cubes, kernel, &beside.client) };
}

/// Launches a kernel, on the device of any tensor of its own:
///
/// ```ignore
/// launch!(
///     norm::Norm beside &y, cubes, dim;            // the function, and the kernel that CubeCL makes of it
///     X = x_dtype; N = width;                      // its types, and its sizes in their order
///     x: Array<Vector<norm::X, norm::N>> = array(&x), eps: f32 = eps; // its arguments
///     planes = 8, dtype = x_dtype,                 // its constants
/// );
/// ```
///
/// Arguments and constants are taken in the function's order, whatever they are called.
///
/// # Safety
///
/// The kernel reads and writes inside its arrays.
macro_rules! launch {
    (
        $function:ident::$kernel:ident beside $tensor:expr, $cubes:expr, $dim:expr;
        $($type:ident = $dtype:expr),+; $($size:ident = $width:expr),+;
        $($argument:ident: $kind:ty = $value:expr),+;
        $($constant:ident = $given:expr),+ $(,)?
    ) => {{
        use $crate::kernels::cube::launch::{launch_described, nested, settings};
        let (tensor, cubes, sizes, constants) = ($tensor, $cubes, ($($width,)+), ($($given,)+));
        let mut launcher = KernelLauncher::new(settings($dim));
        launcher.with_scope(|scope| {
            $(scope.register_type::<$function::$type>($dtype);)+
            $(scope.register_size::<$function::$size>($width);)+
        });
        let ($($argument,)+) = ($($value,)+);
        $(let $argument = <$kind as LaunchArg>::register($argument, &mut launcher);)+
        let facts = (nested!($($argument)+), sizes, constants);
        launch_described(tensor, cubes, launcher, facts, |facts, settings, client| {
            #[allow(non_snake_case, reason = "sizes are called as the function's generic parameters are")]
            let (nested!($($argument)+), ($($size,)+), ($($constant,)+)) = facts;
            $function::$kernel::new(settings, client, $($argument,)+ $($size,)+ $($constant,)+)
        });
    }};
}

/// Pairs of pairs, since tuples of more than twelve cannot be compared.
macro_rules! nested {
    ($only:ident) => { $only };
    ($first:ident $($rest:ident)+) => { ($first, $crate::kernels::cube::launch::nested!($($rest)+)) };
}

pub(super) use {launch, nested};

#[cfg(test)]
mod tests {
    use super::*;

    /// Stands for a kernel of two options.
    struct Plain([Option<u32>; 2]);

    impl KernelMetadata for Plain {
        fn id(&self) -> KernelId {
            KernelId::new::<Self>().info(self.0)
        }

        fn address_type(&self) -> StorageType {
            KernelSettings::default().address_type.unsigned_type()
        }
    }

    impl CubeKernel for Plain {
        fn define(&self) -> KernelDefinition {
            unreachable!("it is described and not compiled")
        }
    }

    /// An id tells apart what a kernel's code depends on, and is the same wherever it is made.
    #[test]
    fn ids_tell_facts_apart() {
        let id = |options, dim| Described::new(Plain(options), CubeDim::new_1d(dim)).id;
        let known = id([Some(1), None], 32);
        for other in [id([None, Some(1)], 32), id([None, None], 32), id([Some(1), None], 64)] {
            assert_ne!(known, other);
        }
        assert_eq!(known, std::thread::spawn(move || id([Some(1), None], 32)).join().expect("it does not panic"));
    }
}
