"""Registries of heads and losses: option classes from the entry points `abaw.heads` and `abaw.losses`.

abaw lists its own in setup.cfg, and other distributions add theirs the same way. An option class names the callable
that builds the head or loss; its module is imported only then, so that reading options does not load torch.
"""

import pkgutil
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar, Generic, TypeVar, Union, get_args

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema

from abaw.core.errors import UsageError, first_line
from abaw.core.plugins import Plugin, load_named, note_package
from abaw.core.tasks import Kind


class Options(BaseModel):
    """Base class for the options of a head or a loss.

    Attributes:
        name: name in the registry; a subclass sets its type to `Literal["its-name"]` and its default to that name.
        built_by: `module:callable` that builds the head or loss.
        kinds: kinds of tasks that it fits.
        summary: what it is in a few words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    built_by: ClassVar[str]
    summary: ClassVar[str] = ""
    kinds: ClassVar[tuple[Kind, ...]] = ("regression", "classes", "binary", "multi")


T = TypeVar("T", bound=Options)


class Registry(Mapping[str, type[T]], Generic[T]):
    """Option classes by name, loaded on first use.

    As an annotation, `Annotated[T, registry]`, it lets pydantic validate options of any registered class.

    Args:
        group: group of entry points.
        base: class that every option class must derive from.
    """

    def __init__(self, group: str, base: type[T]) -> None:
        self._group, self._base = group, base

    def __getitem__(self, name: str) -> type[T]:
        return self._plugins[name].value

    def __iter__(self) -> Iterator[str]:
        return iter(self._plugins)

    def __len__(self) -> int:
        return len(self._plugins)

    def builder(self, name: str) -> Callable[..., Any]:
        """The callable that builds the head or loss of this name; imports its module.

        Raises:
            UsageError: the module of another distribution cannot be imported.
        """
        plugin = self._plugins[name]
        note_package(plugin.value.built_by.partition(":")[0], plugin.source)
        try:
            return pkgutil.resolve_name(plugin.value.built_by)
        except Exception as error:  # an import may raise anything
            if plugin.built_in:
                raise
            raise UsageError(
                f"{plugin.value.built_by} of {plugin.source} cannot be imported ({type(error).__name__}: "
                f"{first_line(error)}). Update that distribution, or choose something other than {name!r}."
            ) from error

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """A union of the registered classes, discriminated by name."""
        classes = tuple(self.values())
        return handler.generate_schema(Annotated[Union[classes], Field(discriminator="name")])  # noqa: UP007

    @cached_property
    def _plugins(self) -> dict[str, Plugin[type[T]]]:
        plugins: dict[str, Plugin[type[T]]] = {}
        for plugin in load_named(self._group, type).values():
            problem = _problem(plugin, self._base)
            if problem:
                plugin.reject(TypeError(problem))
            else:
                plugins[plugin.name] = plugin
        return plugins


def _problem(plugin: Plugin[type], base: type[Options]) -> str:
    """Why a plug-in is not a valid option class; empty if it is valid."""
    options = plugin.value
    if not issubclass(options, base):
        return f"{options.__name__} is not derived from {base.__name__}"
    name = options.model_fields["name"]
    if get_args(name.annotation) != (plugin.name,) or name.default != plugin.name:
        return f"{options.__name__} does not have the name {plugin.name!r}"
    if not isinstance(getattr(options, "built_by", None), str):
        return f"{options.__name__} has no built_by"
    return ""
