import torch

from DanteTrainerLib.methods.distillation.similarity import cosine, pooled, pooled_size, self_similarity


def test_maps_are_pooled_to_at_most_512_positions():
    assert pooled_size(torch.zeros(1, 1, 4, 20, 24)) == (4, 8, 8)
    ramp = torch.arange(16.0).reshape(1, 1, 16, 1, 1).expand(2, 3, 16, 2, 1)
    places = pooled(ramp)
    assert places.shape == (2, 16, 3)
    assert places[0, :, 0].tolist() == [
        0.5,
        0.5,
        2.5,
        2.5,
        4.5,
        4.5,
        6.5,
        6.5,
        8.5,
        8.5,
        10.5,
        10.5,
        12.5,
        12.5,
        14.5,
        14.5,
    ]


def test_row_contains_normalised_products_with_all_positions():
    places = torch.tensor([[[3.0, 0.0], [0.0, 1.0], [4.0, 0.0]]])
    # products of the first: 9, 0, 12; of the second: 0, 1, 0; of the third: 12, 0, 16
    wanted = torch.tensor([[[0.6, 0, 0.8], [0, 1, 0], [0.6, 0, 0.8]]])
    assert torch.allclose(self_similarity(places), wanted)


def test_cosines_ignore_length_and_are_zero_for_a_zero_vector():
    a, b = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]]), torch.tensor([[30.0, 40.0], [-2.0, 2.0], [1.0, 1.0]])
    assert torch.allclose(cosine(a, b), torch.tensor([1.0, -(0.5**0.5), 0.0]))
