"""Stand-in for slicer.parameterNodeWrapper: typed access to a vtkMRMLScriptedModuleNode, connected to widgets.

Supports str, bool, int, float, enum.Enum and MRML node types, and the widgets QCheckBox, QComboBox (of an enum) and
qMRMLNodeComboBox. Not implemented: lists, tuples, dicts, unions, parameter packs, paths, createGui, caching, and
validators other than WithinRange and Choice.
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
    """A field of the class, and how it is stored in the node."""

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
        self._connections: dict[int, dict[str, _Connector]] = {}
        self._next_tag = 0
        self._updating = False
        for parameter in parameters.values():
            if not parameterNode.HasParameter(parameter.name):
                parameter.write(parameterNode, parameter.default)

    cls.__init__ = __init__
    cls.allParameters = parameters
    cls.connectGui = _connectGui
    cls.connectParametersToGui = _connectParametersToGui
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


class _Connector:
    """A widget that shows a parameter, and the callback for the user's changes."""

    def __init__(self, parameter: _Parameter, widget: Any) -> None:
        import qt
        import slicer

        self._callback: Callable[[], None] | None = None
        if type(widget) is qt.QCheckBox and parameter.type is bool:
            self._signal, self.write = widget.stateChanged, widget.setChecked
            self.read = lambda: widget.checked
        elif type(widget) is slicer.qMRMLNodeComboBox and parameter.is_node:
            self._signal, self.read, self.write = widget.currentNodeChanged, widget.currentNode, widget.setCurrentNode
        elif type(widget) is qt.QComboBox and issubclass(parameter.type, enum.Enum):
            choices = list(parameter.type)
            widget.clear()  # as in Slicer: connected observers get -1, and 0 with the first item
            for choice in choices:
                widget.addItem(choice.label() if hasattr(choice, "label") else choice.name)
            self._signal, self.read = widget.currentIndexChanged, lambda: choices[widget.currentIndex]
            self.write = lambda value: widget.setCurrentIndex(choices.index(value))
        else:
            raise RuntimeError(f"no connection of {parameter.type} with {type(widget)}")

    def on_changed(self, callback: Callable[[], None] | None) -> None:
        self._callback = callback
        if callback is None:
            self._signal.disconnect(self._changed)
        else:
            self._signal.connect(self._changed)

    def _changed(self, *_: object) -> None:
        if self._callback is not None:
            self._callback()


def _connectParametersToGui(self: Any, mapping: dict[str, Any]) -> int:
    """Connect widgets and parameters in both directions; returns a tag for `disconnectGui`.

    As in Slicer, the node's observer remains after disconnecting.
    """
    unknown = [name for name in mapping if name not in self.allParameters]
    if unknown:
        raise ValueError(f"Cannot find a param with the given name: {unknown[0]}")
    connectors = {name: _Connector(self.allParameters[name], widget) for name, widget in mapping.items()}
    tag, self._next_tag = self._next_tag, self._next_tag + 1
    self._connections[tag] = connectors
    for name, connector in connectors.items():
        connector.write(getattr(self, name))
        connector.on_changed(_to_parameter(self, name, connector))
    self.AddObserver("ModifiedEvent", lambda *_: _update_gui(self))
    return tag


def _to_parameter(self: Any, name: str, connector: _Connector) -> Callable[[], None]:
    import slicer

    def write() -> None:
        with slicer.util.NodeModify(self):
            if not self._updating:
                setattr(self, name, connector.read())

    return write


def _update_gui(self: Any) -> None:
    import slicer

    if self._updating:
        return
    self._updating = True
    try:
        with slicer.util.NodeModify(self):
            for connectors in self._connections.values():
                for name, connector in connectors.items():
                    connector.write(getattr(self, name))
    finally:
        self._updating = False


def _connectGui(self: Any, gui: Any) -> None:
    """Connect every widget of `gui` that has a SlicerParameterName; as in Slicer 5.10, without a tag to undo it."""
    named = {widget.property("SlicerParameterName"): widget for widget in vars(gui).values()}
    _connectParametersToGui(self, {name: widget for name, widget in named.items() if name})


def _disconnectGui(self: Any, tag: int) -> None:
    for connector in self._connections.pop(tag, {}).values():
        connector.on_changed(None)
