"""Stand-in for slicer.parameterNodeWrapper: typed access to a vtkMRMLScriptedModuleNode, connected to widgets.

Knows str, bool, int, float, enum.Enum and MRML node types, and the widgets QCheckBox, QComboBox (of an enum),
qMRMLNodeComboBox. Does not do: lists, tuples, dicts, unions, parameter packs, paths, createGui, caching, and validators
other than WithinRange and Choice.
"""

from __future__ import annotations

import enum
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Choice", "Default", "WithinRange", "parameterNodeWrapper"]


@dataclass
class WithinRange:
    minimum: float
    maximum: float

    def validate(self, value: float) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is not within {self.minimum} to {self.maximum}")


@dataclass
class Choice:
    choices: typing.Sequence

    def validate(self, value: object) -> None:
        if value not in self.choices:
            raise ValueError(f"{value} is not one of {self.choices}")


@dataclass
class Default:
    value: object


class _Parameter:
    """One field of the class: how it is written into the node and read back."""

    def __init__(self, name: str, annotated: Any, owner: type) -> None:
        self.name = name
        self.type, *extras = typing.get_args(annotated) if hasattr(annotated, "__metadata__") else (annotated,)
        if hasattr(annotated, "__metadata__"):
            extras = list(annotated.__metadata__)
        self.validators = [extra for extra in extras if hasattr(extra, "validate")]
        default = next((extra.value for extra in extras if isinstance(extra, Default)), None)
        self.default = getattr(owner, name, default)
        if self.default is None and not self.is_node:
            self.default = next(iter(self.type)) if issubclass(self.type, enum.Enum) else self.type()

    @property
    def is_node(self) -> bool:
        import slicer

        return issubclass(self.type, slicer.vtkMRMLNode)

    def read(self, node: Any) -> Any:
        if self.is_node:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        if self.type is bool:
            return text == "True"
        return self.type[text] if issubclass(self.type, enum.Enum) else self.type(text)

    def write(self, node: Any, value: Any) -> None:
        if not isinstance(value, self.type) and not (value is None and self.is_node):
            raise TypeError(f"{self.name} needs {self.type.__name__}, got {value!r}")
        for validator in self.validators:
            validator.validate(value)
        if self.is_node:
            node.SetParameter(self.name, "")
            node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
        else:
            node.SetParameter(self.name, value.name if isinstance(value, enum.Enum) else str(value))


def parameterNodeWrapper(cls: type) -> type:
    """Class decorator: fields with type hints become properties stored in the node given to the constructor."""
    hints = typing.get_type_hints(cls, include_extras=True)
    parameters = {name: _Parameter(name, hint, cls) for name, hint in hints.items()}
    for name, parameter in parameters.items():
        setattr(cls, name, _property(parameter))

    def __init__(self: Any, parameterNode: Any) -> None:
        self.parameterNode = parameterNode
        self._connections: dict[int, list[tuple[Any, Callable]]] = {}
        self._observers: dict[int, int] = {}
        for parameter in parameters.values():
            if not parameterNode.HasParameter(parameter.name):
                parameter.write(parameterNode, parameter.default)

    cls.__init__ = __init__
    cls.allParameters = parameters
    cls.connectGui = _connectGui
    cls.disconnectGui = _disconnectGui
    cls.AddObserver = lambda self, event, callback, priority=0.0: self.parameterNode.AddObserver(event, callback)
    cls.RemoveObserver = lambda self, tag: self.parameterNode.RemoveObserver(tag)
    cls.StartModify = lambda self: self.parameterNode.StartModify()
    cls.EndModify = lambda self, before: self.parameterNode.EndModify(before)
    cls.Modified = lambda self: self.parameterNode.Modified()
    return cls


def _property(parameter: _Parameter) -> property:
    return property(
        lambda self: parameter.read(self.parameterNode), lambda self, value: parameter.write(self.parameterNode, value)
    )


def _connectGui(self: Any, gui: Any) -> int:
    """Join every widget of `gui` that has a SlicerParameterName to its parameter, both ways."""
    tag = len(self._connections)
    self._connections[tag] = []
    updates = []
    for widget in vars(gui).values():
        name = widget.property("SlicerParameterName")
        if name:
            updates.append(_join(self, tag, self.allParameters[name], widget))
    self._observers[tag] = self.AddObserver("ModifiedEvent", lambda *_: [update() for update in updates])
    return tag


def _join(self: Any, tag: int, parameter: _Parameter, widget: Any) -> Callable[[], None]:
    import qt
    import slicer

    if type(widget) is qt.QCheckBox and parameter.type is bool:
        signal, read, write = widget.stateChanged, lambda: widget.checked, lambda value: widget.setChecked(value)
    elif type(widget) is slicer.qMRMLNodeComboBox and parameter.is_node:
        signal, read, write = widget.currentNodeChanged, widget.currentNode, widget.setCurrentNode
    elif type(widget) is qt.QComboBox and issubclass(parameter.type, enum.Enum):
        choices = list(parameter.type)
        widget.clear()
        widget.addItems([choice.label() if hasattr(choice, "label") else choice.name for choice in choices])
        signal = widget.currentIndexChanged
        read, write = lambda: choices[widget.currentIndex], lambda value: widget.setCurrentIndex(choices.index(value))
    else:
        raise RuntimeError(f"no connection of {parameter.type} with {type(widget)}")
    updating = False

    def to_widget() -> None:
        nonlocal updating
        updating = True
        write(parameter.read(self.parameterNode))
        updating = False

    def to_parameter(*_: object) -> None:
        if not updating:
            parameter.write(self.parameterNode, read())

    to_widget()
    signal.connect(to_parameter)
    self._connections[tag].append((signal, to_parameter))
    return to_widget


def _disconnectGui(self: Any, tag: int) -> None:
    for signal, slot in self._connections.pop(tag, []):
        signal.disconnect(slot)
    if tag in self._observers:
        self.RemoveObserver(self._observers.pop(tag))
