"""``torch.onnx.symbolic_opset11``: empty, for libraries that import it to declare how their operations would be exported."""
