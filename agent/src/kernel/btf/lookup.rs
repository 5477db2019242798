//! Questions by name: fields, sizes, functions, enumerators.
//!
//! A name may stand for several types (vmlinux has a few structs of the same name from different files). Each
//! question is answered by the first of them, in the order of the file, that has the whole answer; two of them are
//! never mixed.

use super::error::BtfError;
use super::path::{Step, steps};
use super::record::{Kind, Record};
use super::walk::{MAX_MEMBERS, Spot};
use super::{Btf, Field, Func};

impl Btf {
    /// Where the field `path` lies in the struct, union or typedef `name`.
    ///
    /// `path` is a C member path such as `rbr.rb_root.rb_node` or `regs[3].x`: members of anonymous structs and
    /// unions are found under their own names, typedefs and qualifiers are looked through, indexes are checked
    /// against the array (index 0 of a flexible array member is allowed). Pointers are not followed, because
    /// what they point to is not in the struct. When several structs have the name, the first one that has the
    /// field answers.
    ///
    /// # Errors
    ///
    /// [`BtfError::Missing`] and [`BtfError::Shape`] when this kernel does not have it (see
    /// [`BtfError::is_absent`]), [`BtfError::Path`] when `path` is badly written, and the others when the file
    /// contradicts itself.
    pub fn field(&self, name: &str, path: &str) -> Result<Field, BtfError> {
        let steps = steps(path)?;
        let mut budget = MAX_MEMBERS;
        let mut absent = None;
        for container in self.containers(name) {
            match self.resolve(name, &container?, &steps, &mut budget) {
                Err(error) if error.is_absent() => absent = absent.or(Some(error)),
                answer => return answer,
            }
        }
        Err(absent.unwrap_or_else(|| BtfError::Missing { name: name.to_owned(), path: None }))
    }

    /// The first of `paths` that `name` has: for fields that were renamed between kernels.
    ///
    /// # Errors
    ///
    /// As [`Btf::field`]; [`BtfError::Missing`] names all of `paths`.
    pub fn field_any(&self, name: &str, paths: &[&str]) -> Result<Field, BtfError> {
        let mut absent = None;
        for path in paths {
            match self.field(name, path) {
                Err(error @ BtfError::Shape { .. }) => absent = Some(error),
                Err(error @ BtfError::Missing { path: None, .. }) => return Err(error),
                Err(BtfError::Missing { .. }) => {}
                answer => return answer,
            }
        }
        let missing = || BtfError::Missing { name: name.to_owned(), path: Some(paths.join(" or ")) };
        Err(absent.unwrap_or_else(missing))
    }

    /// Bytes that the struct or union `name` takes, or else the typedef `name`, whatever it stands for.
    ///
    /// # Errors
    ///
    /// [`BtfError::Missing`] when there is none, or only a forward declaration; others when the file contradicts
    /// itself.
    pub fn size_of(&self, name: &str) -> Result<u32, BtfError> {
        let container = self.named(name).find(|record| record.kind.is_container());
        let typedef = || self.named(name).find(|record| record.kind == Kind::Typedef);
        let size = match container.or_else(typedef) {
            Some(record) => self.type_size(record.id)?,
            None => None,
        };
        size.ok_or_else(|| BtfError::Missing { name: name.to_owned(), path: None })
    }

    /// The kernel function `name`, when it has BTF (not every function has: some are inlined away).
    pub fn func(&self, name: &str) -> Option<Func> {
        let func = self.named(name).find(|record| record.kind == Kind::Func)?;
        let prototype = self.record(func.value).ok()?;
        let params = prototype.params().count();
        // "..." is written as one more parameter, of no name and no type.
        let variadic = prototype.params().last() == Some((0, 0));
        Some(Func { params: params - usize::from(variadic), variadic, type_id: func.id })
    }

    /// The number of the struct `name`: of the first with that name.
    pub fn struct_id(&self, name: &str) -> Option<u32> {
        self.named(name).find(|record| record.kind == Kind::Struct).map(|record| record.id)
    }

    /// The value of `name` in the enum `enum_name`, or in any enum without a name when `enum_name` is empty.
    ///
    /// Signed and unsigned values of 32 and 64 bits all fit. Compilers before 2022 did not note that an enum is
    /// signed; the negative values of theirs are seen as large positive ones.
    pub fn enumerator(&self, enum_name: &str, name: &str) -> Option<i128> {
        let value = |record: Record<'_>| {
            let mut all = record.enumerators();
            all.find(|(text, _)| self.string(*text) == name.as_bytes()).map(|(_, value)| value)
        };
        if !enum_name.is_empty() {
            return self.named(enum_name).filter(|record| record.kind.is_enum()).find_map(value);
        }
        let all = (1..=self.types() as u32).filter_map(|id| self.record(id).ok());
        all.filter(|record| record.kind.is_enum() && self.string(record.name).is_empty()).find_map(value)
    }

    /// The types called `name`, in the order of the file: structs, unions, typedefs, enums and functions.
    fn named<'a>(&'a self, name: &str) -> impl Iterator<Item = Record<'a>> + use<'a> {
        let candidates = self.names.candidates(name.as_bytes()).filter_map(|id| self.record(id).ok());
        let same: Vec<_> = candidates.filter(|record| self.string(record.name) == name.as_bytes()).collect();
        same.into_iter().rev()
    }

    /// The structs and unions called `name`, and then those that typedefs of that name stand for.
    fn containers<'a>(&'a self, name: &str) -> impl Iterator<Item = Result<Record<'a>, BtfError>> + use<'a> {
        let direct = self.named(name).filter(|record| record.kind.is_container()).map(Ok);
        let typedefs = self.named(name).filter(|record| record.kind == Kind::Typedef);
        let meant = typedefs.map(|record| self.strip(record.id));
        direct.chain(meant.filter(|record| record.as_ref().map_or(true, |record| record.kind.is_container())))
    }

    /// Follows `steps` from `container`, which goes by `name`.
    fn resolve(
        &self,
        name: &str,
        container: &Record<'_>,
        steps: &[Step<'_>],
        budget: &mut u32,
    ) -> Result<Field, BtfError> {
        let shape = |path: &str, why| BtfError::Shape { name: name.to_owned(), path: path.to_owned(), why };
        let mut spot = Spot::start(container.id);
        let mut so_far = "";
        for step in steps {
            let outer = self.strip(spot.type_id)?;
            match outer.kind {
                Kind::Struct | Kind::Union => {}
                Kind::Ptr => {
                    let why = "a pointer, and a path does not go through pointers: ask for the rest \
                               in the struct that it points to";
                    return Err(shape(so_far, why.to_owned()));
                }
                kind => return Err(shape(so_far, format!("{}, which has no members", kind.noun()))),
            }
            let Some(found) = self.member(&outer, step.name, budget)? else {
                let path = Some(step.so_far.to_owned());
                return Err(BtfError::Missing { name: name.to_owned(), path });
            };
            spot = found.within(spot);
            so_far = step.so_far;
            for index in &step.indexes {
                spot = self.element(spot, *index)?.map_err(|why| shape(so_far, why))?;
            }
        }
        self.finish(spot)
    }
}
